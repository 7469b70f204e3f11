//! Converts the flags of `pgio serve` to server options.

use super::flags::name_flag;
use super::{ParserName, RelayTo, Serve, TransportName};
use crate::cli::exit::Failure;
use crate::cli::values;
use crate::server::{
    AdminUi, Answers, Authentication, ClientRules, CorsOrigins, Hosted, Jwt, JwtKey, Parser, Relay,
    ServerOptions, TlsFiles, Tokens, Transports,
};

impl Serve {
    fn authentication(&self) -> Result<Authentication, Failure> {
        if let Some(file) = &self.auth_token_file {
            return Ok(Authentication::Tokens(Tokens::read(file)?));
        }
        let key = match (&self.jwt_key_file, &self.jwks) {
            (Some(file), _) => JwtKey::read(file)?,
            (None, Some(file)) => JwtKey::read_jwks(file)?,
            (None, None) => return Ok(Authentication::Anyone),
        };
        Ok(Authentication::Jwt(Jwt::new(key).audience(&self.audience).issuer(&self.issuer)))
    }

    pub(super) fn options(&self) -> Result<ServerOptions, Failure> {
        let authentication = self.authentication()?;
        let answers = match &self.answer {
            Some(json) => {
                let mut values =
                    values::parse_all(std::slice::from_ref(json), false).map_err(|e| e.at("--answer"))?;
                Answers::Value(values.pop().unwrap_or_default())
            }
            None if self.no_answer => Answers::None,
            None => Answers::Identity,
        };
        let mut namespaces = Vec::new();
        for hosted in self.namespaces.as_given().iter().map(|name| Hosted::new(name)) {
            if !namespaces.contains(&hosted) {
                namespaces.push(hosted);
            }
        }
        if namespaces.is_empty() {
            namespaces = ServerOptions::default().namespaces;
        }
        let has = |transport| self.transports.contains(&transport);
        Ok(ServerOptions {
            listen: self.listen.clone(),
            namespaces,
            path: self.path.clone(),
            parser: match self.parser {
                ParserName::Default => Parser::Default,
                ParserName::Msgpack => Parser::Msgpack,
            },
            transports: match (has(TransportName::Websocket), has(TransportName::Polling)) {
                (true, false) => Transports::Websocket,
                (false, true) => Transports::Polling,
                _ => Transports::Both,
            },
            cors: CorsOrigins::parse(&self.cors_origins).map_err(name_flag)?,
            ping_interval: self.ping_interval,
            ping_timeout: self.ping_timeout,
            max_payload: self.max_payload,
            client_buffer: self.client_buffer,
            admin_listen: self.admin_listen.clone(),
            origins: self.origins.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            max_clients: self.max_clients,
            max_clients_per_address: self.max_clients_per_address,
            connect_timeout: self.connect_timeout,
            max_rooms_per_client: self.max_rooms_per_client,
            client_rate: self.client_rate,
            client_bytes: self.client_bytes,
            max_namespaces: self.max_namespaces,
            max_namespaces_per_client: self.max_namespaces_per_client,
            tls: self.tls_cert.as_ref().zip(self.tls_key.as_ref()).map(|(certificate, key)| {
                let files = TlsFiles::new(certificate, key);
                match &self.tls_client_ca {
                    Some(authorities) => files.client_authorities(authorities),
                    None => files,
                }
            }),
            authentication,
            disconnect_expired: self.disconnect_expired,
            rules: ClientRules {
                join: self.allow_join.clone(),
                allow_id_rooms: self.allow_id_rooms,
                relay: match self.relay {
                    None => Relay::Off,
                    Some(RelayTo::Rooms) => Relay::Rooms,
                    Some(RelayTo::Namespace) => Relay::Namespace,
                },
            },
            answers,
            admin_ui: self.admin_ui.as_deref().map(|nsp| AdminUi::default().namespace(nsp)),
            grace: self.grace,
        })
    }
}
