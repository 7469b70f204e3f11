//! Exposure: the accesses that the options leave unprotected on a public address. The server warns of them at the start.

use std::net::SocketAddr;

use super::auth::Authentication;
use super::options::ServerOptions;
use super::origins::OriginRule;

/// An unprotected access: every program that reaches the server's address may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposure {
    /// Clients need no token: see [`ServerOptions::authentication`].
    NoToken,
    /// Pages of every origin may connect, and no token is required: see [`ServerOptions::origins`].
    AnyOrigin,
    /// `/metrics` is on the port of the clients: see [`ServerOptions::admin_listen`].
    PublicMetrics,
}

impl Exposure {
    /// Which access is unprotected, for the log.
    pub fn description(self) -> &'static str {
        match self {
            Self::NoToken => "no authentication: every client may connect without a token",
            Self::AnyOrigin => "no origin check: pages of every origin may connect",
            Self::PublicMetrics => "/metrics is public: it shares the port of the clients",
        }
    }
}

impl ServerOptions {
    /// The unprotected accesses of a server with these options on an address. A loopback address counts as protected, since
    /// only this machine reaches it.
    pub fn exposures(&self, address: SocketAddr) -> Vec<Exposure> {
        if address.ip().is_loopback() {
            return Vec::new();
        }
        let has_no_token = matches!(self.authentication, Authentication::Anyone);
        // A page of another origin can do no more than any other program, so the origin check matters only without
        // tokens.
        let origins = OriginRule::new(self.origins.clone(), &self.cors, !has_no_token);
        let exposures = [
            (Exposure::NoToken, has_no_token),
            (Exposure::AnyOrigin, has_no_token && origins.is_any()),
            (Exposure::PublicMetrics, self.admin_listen.is_none()),
        ];
        exposures.into_iter().filter(|(_, is_open)| *is_open).map(|(exposure, _)| exposure).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::CorsOrigins;
    use super::*;

    #[test]
    fn only_a_public_address_is_exposed() {
        let options = ServerOptions::default();
        let public = "192.0.2.1:3000".parse().unwrap();
        let all = [Exposure::NoToken, Exposure::PublicMetrics];
        assert_eq!(options.exposures(public), all);
        let pages = options.clone().cors(CorsOrigins::Any).admin_listen("127.0.0.1:0".to_owned());
        assert_eq!(pages.exposures(public), [Exposure::NoToken, Exposure::AnyOrigin]);
        assert_eq!(
            pages.origins(["https://*.example.com".parse().unwrap()]).exposures(public),
            [Exposure::NoToken]
        );
        assert!(options.exposures("127.0.0.1:3000".parse().unwrap()).is_empty());
        assert!(options.exposures("[::1]:3000".parse().unwrap()).is_empty());
        assert_eq!(options.exposures("0.0.0.0:3000".parse().unwrap()), all);
    }
}
