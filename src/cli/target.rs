//! The sockets that the flags `--room` and `--except` select.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::exit::Failure;
use super::socket_ids;
use crate::{BroadcastOperator, Cluster, Emitter, Namespace};

/// The selected sockets. Ids of Node may begin with a hyphen.
#[derive(Args)]
pub(super) struct Target {
    /// Select only sockets in this room, or with this id. May be repeated
    #[arg(short, long = "room", alias = "to", value_name = "ROOM", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    rooms: Vec<String>,
    /// Select only the socket with this id; the first characters are enough if they are unique. May be repeated
    #[arg(long = "socket", value_name = "ID", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    sockets: Vec<String>,
    /// Exclude sockets in this room, or with this id. May be repeated
    #[arg(short = 'x', long, value_name = "ROOM", value_parser = NonEmptyStringValueParser::new(), allow_hyphen_values = true)]
    except: Vec<String>,
}

impl Target {
    /// Whether no flag narrows the selection.
    pub(super) fn is_everyone(&self) -> bool {
        self.rooms.is_empty() && self.sockets.is_empty() && self.except.is_empty()
    }

    /// Completes abbreviated socket ids. Call this before `operator`.
    ///
    /// # Errors
    /// Returns the errors of [`socket_ids::complete`].
    pub(super) async fn complete(
        &mut self,
        cluster: &Cluster,
        namespaces: &[Namespace],
    ) -> Result<(), Failure> {
        self.rooms.extend(socket_ids::complete(cluster, namespaces, &self.sockets).await?);
        Ok(())
    }

    /// The operator for the selected sockets in one namespace.
    pub(super) fn operator(&self, cluster: &Cluster, nsp: &Namespace) -> BroadcastOperator {
        let emitter = Emitter::new(cluster.clone()).of(nsp.as_str());
        emitter.to(self.rooms.as_slice()).except(self.except.as_slice())
    }

    /// Describes the selection: `the sockets in r1 or r2 but not in staff of /`, `all sockets of / and /admin`.
    pub(super) fn describe(&self, namespaces: &[Namespace]) -> String {
        let namespaces: Vec<_> = namespaces.iter().map(Namespace::as_str).collect();
        let which = match (self.rooms.is_empty(), self.except.is_empty()) {
            (true, true) => "all sockets".to_owned(),
            (true, false) => format!("all sockets except those in {}", self.except.join(" or ")),
            (false, true) => format!("the sockets in {}", self.rooms.join(" or ")),
            (false, false) => {
                format!("the sockets in {} but not in {}", self.rooms.join(" or "), self.except.join(" or "))
            }
        };
        format!("{which} of {}", namespaces.join(" and "))
    }
}
