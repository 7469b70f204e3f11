//! The adapter makes a socketioxide server a full member of a cluster with Node servers.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pgio::{AdapterOptions, PostgresAdapter, PostgresAdapterCtr};
//! use socketioxide::{SocketIo, extract::SocketRef};
//!
//! let adapter = PostgresAdapterCtr::connect("postgres://localhost/app", AdapterOptions::default()).await?;
//! let (layer, io) = SocketIo::builder()
//!     .max_buffer_size(100_000) // a burst must not overflow a client's buffer
//!     .with_adapter::<PostgresAdapter<_>>(adapter.clone())
//!     .build_layer();
//! adapter.attach(&io);
//! io.ns("/", async |socket: SocketRef<PostgresAdapter<_>>| socket.join("r1")).await?;
//! // Reaches clients of every server, Node's and ours.
//! io.to("r1").emit("hello", "world").await?;
//! adapter.server_side_emit("/", "hello", "servers").await?;
//! # let _ = layer; Ok(()) }
//! ```
//!
//! Counters and histograms go to the [`metrics`](https://docs.rs/metrics) crate. Install a recorder before you connect.
//!
//! In Node each socket is in a room with the name of its id; in socketioxide it is not. The adapter emulates it: an id
//! works as the name of a room in `to` and `except`, on this server and on other servers, and responses to `fetchSockets`
//! list it among the rooms.

mod acks;
#[cfg(feature = "server")]
mod admin_data;
mod admission;
mod application;
mod burst;
mod client_queues;
mod cluster_socket;
pub(crate) mod convert;
mod core_adapter;
mod deliver;
mod delivery_choice;
mod describe;
mod discovery;
mod fetches;
mod goodbyes;
mod handle;
mod incoming;
mod init;
mod io_handle;
mod local;
mod meters;
mod node;
mod readiness;
mod registry;
#[cfg(feature = "server")]
mod relay;
#[cfg(feature = "server")]
mod relayable;
mod served;
mod server_side;
mod target;

pub use acks::Acks;
#[cfg(feature = "server")]
pub(crate) use admin_data::{client_id, transport_name};
#[cfg(feature = "server")]
pub(crate) use admission::{AdmissionGuard, DormantPermit};
#[cfg(feature = "server")]
pub(crate) use client_queues::ClientQueues;
pub use cluster_socket::ClusterSocket;
pub use core_adapter::PostgresAdapter;
pub use describe::{Connection, SocketData};
#[cfg(feature = "server")]
pub(crate) use describe::{handshake_of, socket as describe_socket};
pub use handle::PostgresAdapterCtr;
use handle::Shared;
pub use init::Init;
#[cfg(feature = "server")]
pub(crate) use relay::{Enqueuing, Refused, args_of_client};
#[cfg(feature = "server")]
pub(crate) use relayable::Relayable;
pub use server_side::{Answer as ServerSideAnswer, ServerSideEvent};
pub use socketioxide_core::Sid;
