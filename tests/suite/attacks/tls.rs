//! TLS: old versions and weak suites, and clients without the certificate that is required.

use std::io::{Read, Write};
use std::net::TcpStream;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};
use tempfile::TempDir;

use crate::support::certificates::Certified;
use crate::support::pgio_serve::{PgioServe, fails};
use crate::support::postgres::postgres;

/// Files for a test.
struct Files(TempDir);

impl Files {
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// A client of TLS.
#[derive(Clone, Copy, Default)]
struct Client<'a> {
    version: Option<SslVersion>,
    suites: Option<&'a str>,
    certificate: Option<&'a Certified>,
}

impl Client<'_> {
    /// The version that was agreed on, if the server answers a request.
    fn ask(self, address: &str) -> Option<String> {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        // Old versions need it in OpenSSL 3.
        builder.set_cipher_list(&format!("{}:@SECLEVEL=0", self.suites.unwrap_or("ALL"))).unwrap();
        builder.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
        builder.set_max_proto_version(self.version).unwrap();
        if let Some(certified) = self.certificate {
            builder.set_certificate(&certified.certificate).unwrap();
            builder.set_private_key(&certified.key).unwrap();
        }
        let stream = TcpStream::connect(address).unwrap();
        let mut stream = builder.build().connect("localhost", stream).ok()?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let version = stream.ssl().version_str().to_owned();
        answer.starts_with(b"HTTP/1.0 200 ").then_some(version)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_modern_versions_and_suites_are_spoken() {
    let postgres = postgres().await;
    let files = Files(TempDir::new().unwrap());
    let server = Certified::root("localhost");
    let (certificate, key) =
        (files.file("cert", &server.certificate_pem()), files.file("key", &server.key_pem()));
    let serve = PgioServe::start(postgres.url(), &["--tls-cert", &certificate, "--tls-key", &key]).await;
    let at = |version| Client { version: Some(version), ..Client::default() };
    let address = serve.address();
    assert_eq!(at(SslVersion::TLS1_3).ask(address).as_deref(), Some("TLSv1.3"));
    assert_eq!(at(SslVersion::TLS1_2).ask(address).as_deref(), Some("TLSv1.2"));
    assert_eq!((at(SslVersion::TLS1_1).ask(address), at(SslVersion::TLS1).ask(address)), (None, None));
    for (suites, is_spoken) in [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", true),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", true),
        ("ECDHE-ECDSA-AES128-SHA", false),
        ("ECDHE-ECDSA-AES256-SHA384", false),
        ("ECDHE-ECDSA-AES128-CCM", false),
    ] {
        let client = Client { suites: Some(suites), ..at(SslVersion::TLS1_2) };
        assert_eq!(client.ask(address).is_some(), is_spoken, "{suites}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_needs_a_certificate_of_the_right_authority() {
    let postgres = postgres().await;
    let files = Files(TempDir::new().unwrap());
    let (ours, other) = (Certified::root("ours"), Certified::root("other"));
    let server = ours.issue("localhost");
    let (certificate, key) =
        (files.file("cert", &server.certificate_pem()), files.file("key", &server.key_pem()));
    let authority = files.file("ca", &ours.certificate_pem());
    let flags = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &authority];
    let serve = PgioServe::start(postgres.url(), &flags).await;
    let (good, bad) = (ours.issue("client"), other.issue("client"));
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let ask =
            |certificate| Client { version: Some(version), certificate, suites: None }.ask(serve.address());
        assert!(ask(Some(&good)).is_some(), "{version:?}");
        assert_eq!((ask(None), ask(Some(&bad))), (None, None), "{version:?}");
    }
    let key_of_other = files.file("key2", &bad.key_pem());
    let empty = files.file("empty", b"");
    for (flags, says) in [
        (["--tls-cert", &certificate, "--tls-key", &key_of_other], "cannot be used for TLS with the key"),
        (["--tls-cert", &empty, "--tls-key", &key], "empty: holds no certificate in PEM"),
    ] {
        let args: Vec<_> = ["--database-url", postgres.url()].into_iter().chain(flags).collect();
        let (code, stderr) = fails(&args).await;
        assert!(code == 2 && stderr.contains(says), "{code}: {stderr}");
    }
}
