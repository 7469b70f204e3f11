//! Warnings at the start: the endpoints that the options leave unprotected on a public address.

use std::net::SocketAddr;

use super::auth::Authentication;
use super::options::ServerOptions;
use super::origins::OriginRule;

/// An endpoint that every program that reaches the server's address may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Door {
    /// Clients need no token.
    NoToken,
    /// Pages of every origin may connect, and no token is required.
    AnyOrigin,
    /// `/metrics` is on the port of the clients.
    PublicMetrics,
}

impl Door {
    /// Which access is unprotected, for the log.
    pub fn description(self) -> &'static str {
        match self {
            Self::NoToken => "no authentication: every client may connect without a token",
            Self::AnyOrigin => "no origin check: pages of every origin may connect",
            Self::PublicMetrics => "/metrics is public: it shares the port of the clients",
        }
    }

    /// The flags that protect it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::NoToken => "--jwt-key-file or --auth-token-file",
            Self::AnyOrigin => "--origin with the origins of your pages",
            Self::PublicMetrics => "--admin-listen, or a proxy that forwards the Socket.IO path only",
        }
    }
}

impl ServerOptions {
    /// The endpoints that a server with these options leaves unprotected on an address. A loopback address counts as
    /// protected, since only this machine reaches it.
    pub fn open_doors(&self, address: SocketAddr) -> Vec<Door> {
        if address.ip().is_loopback() {
            return Vec::new();
        }
        let has_no_token = matches!(self.authentication, Authentication::Anyone);
        // A page of another origin can do no more than any other program, so the origin check matters only without
        // tokens.
        let origins = OriginRule::new(self.origins.clone(), &self.cors, !has_no_token);
        let doors = [
            (Door::NoToken, has_no_token),
            (Door::AnyOrigin, has_no_token && origins.is_any()),
            (Door::PublicMetrics, self.admin_listen.is_none()),
        ];
        doors.into_iter().filter(|(_, is_open)| *is_open).map(|(door, _)| door).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::CorsOrigins;
    use super::*;

    #[test]
    fn only_doors_that_others_can_reach_are_open() {
        let options = ServerOptions::default();
        let public = "192.0.2.1:3000".parse().unwrap();
        let all = [Door::NoToken, Door::PublicMetrics];
        assert_eq!(options.open_doors(public), all);
        let pages = options.clone().cors(CorsOrigins::Any).admin_listen("127.0.0.1:0".to_owned());
        assert_eq!(pages.open_doors(public), [Door::NoToken, Door::AnyOrigin]);
        assert_eq!(
            pages.origins(["https://*.example.com".parse().unwrap()]).open_doors(public),
            [Door::NoToken]
        );
        assert!(options.open_doors("127.0.0.1:3000".parse().unwrap()).is_empty());
        assert!(options.open_doors("[::1]:3000".parse().unwrap()).is_empty());
        assert_eq!(options.open_doors("0.0.0.0:3000".parse().unwrap()), all);
    }
}
