//! The flags behind the fields of [`ServerOptions`](crate::server::ServerOptions). An error of the library names the
//! field.

use crate::Error;

/// Replaces the name of the field by that of the flag.
pub(super) fn name_flag(error: Error) -> Error {
    match error {
        Error::Setting { setting, reason } => {
            let setting = flag(&setting).map_or(setting, str::to_owned);
            Error::Setting { setting, reason }
        }
        other => other,
    }
}

fn flag(field: &str) -> Option<&'static str> {
    match field {
        "client_buffer" => Some("--client-buffer"),
        "origins" => Some("--origin"),
        "trusted_proxies" => Some("--trusted-proxy"),
        "cors" => Some("--cors-origin"),
        "namespaces" => Some("--namespace"),
        "path" => Some("--path"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::CorsOrigins;

    #[test]
    fn the_flag_stands_for_the_field() {
        let error = CorsOrigins::parse(&["a.example"]).unwrap_err();
        assert!(error.to_string().starts_with("cors: "), "{error}");
        let error = name_flag(error);
        assert!(error.to_string().starts_with("--cors-origin: "), "{error}");
        assert_eq!(name_flag(Error::Closed).to_string(), Error::Closed.to_string());
    }
}
