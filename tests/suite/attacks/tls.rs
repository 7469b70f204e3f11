//! TLS: old versions and weak suites, and clients without the certificate that is required.

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use openssl::hash::MessageDigest;
use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use tempfile::TempDir;

use crate::support::certificates::Certified;
use crate::support::pgio_serve::{PgioServe, fails, until};
use crate::support::postgres::postgres;

/// The files of a test.
struct Files(TempDir);

impl Files {
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// A TLS client.
#[derive(Clone, Copy, Default)]
struct Client<'a> {
    version: Option<SslVersion>,
    suites: Option<&'a str>,
    certificate: Option<&'a Certified>,
}

impl Client<'_> {
    /// The TLS version of the connection, if the server answers a request.
    fn ask(self, address: &str) -> Option<String> {
        let mut stream = self.connect(address)?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let version = stream.ssl().version_str().to_owned();
        answer.starts_with(b"HTTP/1.0 200 ").then_some(version)
    }

    fn connect(self, address: &str) -> Option<SslStream<TcpStream>> {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        // OpenSSL 3 needs this level for old versions.
        builder.set_cipher_list(&format!("{}:@SECLEVEL=0", self.suites.unwrap_or("ALL"))).unwrap();
        builder.set_min_proto_version(Some(SslVersion::TLS1)).unwrap();
        builder.set_max_proto_version(self.version).unwrap();
        if let Some(certified) = self.certificate {
            builder.set_certificate(&certified.certificate).unwrap();
            builder.set_private_key(&certified.key).unwrap();
        }
        let stream = TcpStream::connect(address).unwrap();
        builder.build().connect("localhost", stream).ok()
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

/// The certificate that a server shows to a new connection.
fn shown(address: &str) -> X509 {
    Client::default().connect(address).unwrap().ssl().peer_certificate().unwrap()
}

fn is(one: &X509, other: &Certified) -> bool {
    let digest = |certificate: &X509| certificate.digest(MessageDigest::sha256()).unwrap().to_vec();
    digest(one) == digest(&other.certificate)
}

/// Sends a request on a connection that stays open. Returns the status line.
fn request(stream: &mut SslStream<TcpStream>) -> String {
    ask(stream, "/healthz", b"ok\n")
}

/// Opens a session, without which the connection would be closed after its first response.
fn open_session(stream: &mut SslStream<TcpStream>) {
    ask(stream, "/socket.io/?EIO=4&transport=polling", b"}");
}

/// The status line of the response, whose body ends with these bytes.
fn ask(stream: &mut SslStream<TcpStream>, path: &str, end: &[u8]) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: pgio\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    String::from_utf8(answer).unwrap().lines().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_to_new_connections_and_a_broken_one_to_none() {
    let postgres = postgres().await;
    let files = Files(TempDir::new().unwrap());
    let [first, second, third] = ["first", "second", "third"].map(Certified::root);
    let write = |server: &Certified| {
        (files.file("cert", &server.certificate_pem()), files.file("key", &server.key_pem()))
    };
    let (certificate, key) = write(&first);
    let serve = PgioServe::start(postgres.url(), &["--tls-cert", &certificate, "--tls-key", &key]).await;
    let address = serve.address();
    assert!(is(&shown(address), &first));
    let mut old = Client::default().connect(address).unwrap();
    open_session(&mut old);
    assert_eq!(request(&mut old), "HTTP/1.1 200 OK");

    write(&second);
    until("the second certificate is shown", async || is(&shown(address), &second)).await;
    assert_eq!(request(&mut old), "HTTP/1.1 200 OK");

    files.file("cert", b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n");
    let warning = serve.wait_for_log("cannot reload the certificate; keeping the old one").await;
    assert_eq!(warning["level"], "WARN");
    let error = warning["fields"]["error"].as_str().unwrap();
    assert!(error.contains(&certificate) && error.contains("holds no certificate in PEM"), "{error}");
    // Without a request, the server would close the connection.
    assert_eq!(request(&mut old), "HTTP/1.1 200 OK");
    // The key of another certificate is refused as well.
    files.file("cert", &second.certificate_pem());
    files.file("key", &third.key_pem());
    serve.signal(Signal::SIGHUP);
    let is_told = |line: &serde_json::Value| {
        line["fields"]["error"]
            .as_str()
            .is_some_and(|error| error.contains("cannot be used for TLS with the key"))
    };
    until("the wrong key is told of", async || serve.log().iter().any(is_told)).await;
    assert!(is(&shown(address), &second));
    assert_eq!(request(&mut old), "HTTP/1.1 200 OK");

    write(&third);
    until("the third certificate is shown", async || is(&shown(address), &third)).await;
    assert_eq!(request(&mut old), "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authorities_of_clients_are_read_again() {
    let postgres = postgres().await;
    let files = Files(TempDir::new().unwrap());
    let (before, after) = (Certified::root("before"), Certified::root("after"));
    let server = before.issue("localhost");
    let (certificate, key) =
        (files.file("cert", &server.certificate_pem()), files.file("key", &server.key_pem()));
    let authority = files.file("ca", &before.certificate_pem());
    let flags = ["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &authority];
    let serve = PgioServe::start(postgres.url(), &flags).await;
    let [old, new] = [before.issue("client"), after.issue("client")];
    let ask =
        |certificate| Client { certificate: Some(certificate), ..Client::default() }.ask(serve.address());
    assert!(ask(&old).is_some() && ask(&new).is_none());
    files.file("ca", &after.certificate_pem());
    until("the new authority is trusted", async || ask(&new).is_some()).await;
    assert!(ask(&old).is_none());
}
