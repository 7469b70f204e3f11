//! Socket.IO clusters on Postgres: one protocol with the Node packages.
//!
//! The servers of a Socket.IO cluster with [`@socket.io/postgres-adapter`] communicate by `LISTEN` and `NOTIFY` of a
//! Postgres database. This crate implements the same protocol, with versions 0.3, 0.4 and 0.5. It has
//!
//! - an [`Emitter`], which reaches the clients of such a cluster from a process without clients of its own;
//! - subscriptions to all messages between the servers: [`Cluster::subscribe`];
//! - an adapter for [socketioxide], which makes a Rust server a full member among Node servers:
//!   `PostgresAdapter` (feature `adapter`);
//! - `pgio`, a program for operators of such a cluster (feature `cli`).
//!
//! [`@socket.io/postgres-adapter`]: https://socket.io/docs/v4/postgres-adapter/
//! [socketioxide]: https://docs.rs/socketioxide
//!
//! # Emit
//! ```no_run
//! use std::time::Duration;
//!
//! # async fn example() -> pgio::Result<()> {
//! let emitter = pgio::Emitter::connect("postgres://user:secret@localhost/app").await?;
//! emitter.to("r1").except("r2").emit("ping", "<>").await?;
//! emitter.of("/admin").emit("tick", (1, serde_json::json!({ "a": 2 }))).await?;
//!
//! let answers = emitter.timeout(Duration::from_secs(5)).emit_with_ack::<String>("who?", ()).await?;
//! println!("{} of {} clients answered", answers.answers.len(), answers.expected);
//!
//! emitter.within("r1").join("r2").await?;
//! emitter.server_side_emit("reload", "prices").await?;
//! # Ok(()) }
//! ```
//!
//! # Subscribe
//! ```no_run
//! use pgio::cluster::{Content, Event};
//! use pgio::{AdapterOptions, Cluster, Settings};
//!
//! # async fn example() -> pgio::Result<()> {
//! let settings = Settings::parse("postgres://localhost/app")?;
//! let cluster = Cluster::connect(settings, AdapterOptions::default()).await?;
//! let mut events = cluster.subscribe(["/"], |_header| true).await?;
//! while let Some(event) = events.next().await {
//!     if let Event::Message(received) = event
//!         && let Content::Message(message) = &received.content
//!     {
//!         println!("{} from {}", message.kind(), message.uid);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # Serve
#![cfg_attr(feature = "adapter", doc = "```no_run")]
#![cfg_attr(not(feature = "adapter"), doc = "```ignore")]
//! use pgio::{AdapterOptions, PostgresAdapter, PostgresAdapterCtr};
//! use socketioxide::{SocketIo, extract::SocketRef};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let adapter = PostgresAdapterCtr::connect("postgres://localhost/app", AdapterOptions::default()).await?;
//! let (layer, io) = SocketIo::builder()
//!     .max_buffer_size(100_000) // a burst must not overflow a client's buffer
//!     .with_adapter::<PostgresAdapter<_>>(adapter.clone())
//!     .build_layer();
//! adapter.attach(&io);
//! io.ns("/", async |socket: SocketRef<PostgresAdapter<_>>| socket.join("r1")).await?;
//!
//! // Reaches clients of every server of the cluster, Node's and ours.
//! io.to("r1").emit("hello", "world").await?;
//! # let _ = layer; Ok(()) }
//! ```
//!
//! # Modules
//! Each module uses only those above it.
//!
//! | module | what it owns |
//! |---|---|
//! | [`protocol`] | messages, values, and their encodings in JSON and msgpack; no I/O |
//! | [`postgres`] | all SQL: connecting, listening, publishing, the attachment table |
#![cfg_attr(
    feature = "private",
    doc = "| [`postgres::private`] | a private Postgres server from the binaries on the machine, for tests |"
)]
#![cfg_attr(
    not(feature = "private"),
    doc = "| `postgres::private` (feature `private`) | a private Postgres server from the binaries on the machine, for tests |"
)]
//! | [`cluster`] | publish a message, subscribe to namespaces, send requests to all servers and collect their answers |
//! | [`emitter`] | the API of the Node emitter, and more |
#![cfg_attr(feature = "adapter", doc = "| [`adapter`] | socketioxide's adapter |")]
#![cfg_attr(not(feature = "adapter"), doc = "| `adapter` (feature `adapter`) | socketioxide's adapter |")]
#![cfg_attr(
    feature = "server",
    doc = "| [`server`] | a whole server around the adapter: HTTP, authentication, client rules, health and metrics |"
)]
#![cfg_attr(
    not(feature = "server"),
    doc = "| `server` (feature `server`) | a whole server around the adapter: HTTP, authentication, client rules, health and metrics |"
)]
//!
//! # Features
//! | feature | brings |
//! |---|---|
//! | `cli` | the `pgio` program, with `adapter`, `server` and `private` |
//! | `adapter` | the adapter, with socketioxide |
//! | `server` | the server of `pgio serve`, with axum, hyper and a recorder for metrics |
//! | `private` | `postgres::private`: private Postgres servers from the binaries on the machine, for tests |
//! | `vendored` | OpenSSL built from source and linked statically, for a program that runs on every distribution |
//!
//! No feature is on by default: the crate alone brings the emitter and subscriptions, and none of those dependencies.
//!
//! pgio is not published yet. In a clone of its repository, `cargo install --locked --path . --features cli` installs the
//! program, and another crate depends on it with `cargo add --path`. After the publication the commands will be
//! `cargo install pgio --features cli` and `cargo add pgio`.

#![warn(missing_docs)]

mod error;

#[cfg(feature = "adapter")]
pub mod adapter;
#[cfg(feature = "cli")]
#[doc(hidden)]
#[allow(rustdoc::invalid_html_tags, reason = "its comments are texts for `--help`")]
pub mod cli;
pub mod cluster;
pub mod emitter;
pub mod postgres;
mod private_key;
pub mod protocol;
mod safe_text;
#[cfg(feature = "server")]
pub mod server;
mod setters;

#[cfg(feature = "adapter")]
pub use adapter::{PostgresAdapter, PostgresAdapterCtr};
/// The bytes of a binary value.
pub use bytes::Bytes;
pub use cluster::{AdapterOptions, Cluster};
pub use emitter::{BroadcastOperator, Emitter};
pub use error::{Cause, Error, Result};
pub use postgres::{Receipt, Settings};
pub use protocol::{Args, Date, Namespace, RemoteSocket, Value};

/// Compiles the examples of the guide.
#[cfg(all(doctest, feature = "adapter"))]
#[doc = include_str!("../docs/adapter.md")]
struct AdapterGuide;

/// Compiles the example of a server in a program.
#[cfg(all(doctest, feature = "server"))]
#[doc = include_str!("../docs/serve.md")]
struct ServeGuide;
