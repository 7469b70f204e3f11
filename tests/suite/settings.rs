//! Connections to real servers: TLS in all its modes, certificates, several hosts, and every kind of refusal.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use openssl::symm::Cipher;
use pgio::postgres::private::PrivateServer;
use pgio::{AdapterOptions, Cluster, Error, Settings};
use tempfile::TempDir;

use crate::support::attachments::execute;
use crate::support::certificates::Certified;
use crate::support::postgres::{own_server, own_server_builder, postgres};
use crate::support::sql::query_text;

/// A server with TLS, the files for its clients, and roles that require a kind of connection.
struct TlsServer {
    server: PrivateServer,
    files: TempDir,
    root: Certified,
}

impl TlsServer {
    async fn start() -> Self {
        let server = own_server_builder()
            .await
            .access("hostssl all only_tls 127.0.0.1/32 scram-sha-256")
            .access("host all only_tls 127.0.0.1/32 reject")
            .access("hostnossl all only_plain 127.0.0.1/32 scram-sha-256")
            .access("host all only_plain 127.0.0.1/32 reject")
            .access("hostssl all only_password 127.0.0.1/32 password")
            .access("hostssl all only_certificate 127.0.0.1/32 cert")
            .start()
            .await
            .unwrap();
        let files = TempDir::new().unwrap();
        let root = Certified::root("root of the tests");
        let own = root.issue("db.test");
        let directory = server.directory().to_owned();
        let owner = fs::metadata(&directory).unwrap().uid();
        for (name, content) in [
            ("root.crt", root.certificate_pem()),
            ("own.crt", own.certificate_pem()),
            ("own.key", own.key_pem()),
        ] {
            let path = directory.join(name);
            fs::write(&path, content).unwrap();
            chown(&path, Some(owner), None).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        for (setting, file) in
            [("ssl_cert_file", "own.crt"), ("ssl_key_file", "own.key"), ("ssl_ca_file", "root.crt")]
        {
            let file = directory.join(file);
            execute(&server.url(), &format!("ALTER SYSTEM SET {setting} = '{}'", file.display())).await;
        }
        execute(&server.url(), "ALTER SYSTEM SET ssl = on").await;
        let roles = "CREATE ROLE only_tls LOGIN PASSWORD 'pw'; CREATE ROLE only_plain LOGIN PASSWORD 'pw';
            CREATE ROLE only_password LOGIN PASSWORD 'pw'; CREATE ROLE only_certificate LOGIN; SELECT pg_reload_conf();";
        execute(&server.url(), roles).await;
        let this = Self { server, files, root };
        // The reload is complete when the first connection is encrypted.
        while this.is_encrypted("sslmode=prefer").await != Ok(true) {
            tokio::task::yield_now().await;
        }
        this
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.files.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    /// Connects with these additional settings. Returns whether the connections were encrypted, or the error.
    async fn is_encrypted(&self, settings: &str) -> Result<bool, String> {
        is_encrypted(&self.server.url(), settings).await
    }
}

async fn is_encrypted(url: &str, settings: &str) -> Result<bool, String> {
    let base = url.parse::<tokio_postgres::Config>().unwrap();
    let password = String::from_utf8(base.get_password().unwrap().to_vec()).unwrap();
    let (user, port) = (base.get_user().unwrap(), base.get_ports()[0]);
    let name =
        format!("test {settings}").chars().filter(|c| c.is_alphanumeric()).take(60).collect::<String>();
    // The last value of a keyword counts.
    let text = format!(
        "host=127.0.0.1 port={port} user={user} password={password} dbname=pgio application_name={name} {settings}"
    );
    let settings = Settings::parse(&text).map_err(|error| error.to_string())?;
    let cluster = Cluster::connect(settings, AdapterOptions::default()).await.map_err(|e| e.to_string())?;
    let answer = query_text(
        url,
        &format!(
            "SELECT string_agg(DISTINCT ssl::text, ',') FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
             WHERE application_name = '{name}'"
        ),
    )
    .await;
    drop(cluster);
    Ok(answer == "true")
}

#[tokio::test]
async fn the_modes_on_a_server_with_tls() {
    let server = TlsServer::start().await;
    let root = server.file("root.crt", &server.root.certificate_pem());
    let other = server.file("other.crt", &Certified::root("another root").certificate_pem());
    let right = format!("sslrootcert={root}");
    let wrong = format!("sslrootcert={other}");
    let named = "host=db.test hostaddr=127.0.0.1";
    let cases = [
        ("sslmode=disable".into(), Ok(false)),
        ("sslmode=allow".into(), Ok(false)),
        ("sslmode=allow user=only_tls password=pw".into(), Ok(true)),
        ("sslmode=prefer".into(), Ok(true)),
        ("sslmode=prefer user=only_plain password=pw".into(), Ok(false)),
        ("sslmode=require".into(), Ok(true)),
        (format!("sslmode=require {wrong}"), Err("certificate verify failed: self-signed certificate")),
        (format!("sslmode=verify-ca {right}"), Ok(true)),
        (
            format!("sslmode=verify-ca {wrong}"),
            Err("TLS: certificate verify failed: self-signed certificate in certificate chain"),
        ),
        (
            "sslmode=verify-ca".into(),
            Err("sslmode: verifying the server's certificate needs sslrootcert=FILE"),
        ),
        (format!("sslmode=verify-full {named}"), Err("sslmode: verifying the server's certificate needs")),
        (format!("sslmode=verify-full sslrootcert=system {named}"), Err("certificate verify failed")),
        (format!("sslmode=verify-full {right} {named}"), Ok(true)),
        (
            format!("sslmode=verify-full {wrong} {named}"),
            Err("certificate verify failed: self-signed certificate"),
        ),
        (format!("sslmode=verify-full {right} host=other.test hostaddr=127.0.0.1"), Err("ostname mismatch")),
        (format!("sslmode=verify-full {right}"), Err("IP address mismatch")),
        (format!("sslrootcert=system {named}"), Err("certificate verify failed")),
        (format!("sslmode=prefer {wrong}"), Ok(true)),
        ("sslmode=require ssl_max_protocol_version=TLSv1.2".into(), Ok(true)),
        ("sslmode=require ssl_min_protocol_version=TLSv1.3".into(), Ok(true)),
        ("sslmode=require sslsni=0 channel_binding=require".into(), Ok(true)),
        ("sslmode=require channel_binding=require require_auth=scram-sha-256".into(), Ok(true)),
        ("sslmode=require user=only_password password=pw".into(), Ok(true)),
        // pgio does not send a clear-text password, and does not start SCRAM without TLS, since it could not bind the
        // channel.
        (
            "sslmode=require user=only_password password=pw channel_binding=require".into(),
            Err("server did not use channel binding"),
        ),
        ("sslmode=disable channel_binding=require".into(), Err("channel binding")),
        ("sslmode=disable user=only_tls password=pw".into(), Err("pg_hba.conf rejects connection")),
        ("sslmode=require user=only_plain password=pw".into(), Err("pg_hba.conf rejects connection")),
        (
            "sslmode=verify-ca sslrootcert=/no/such/root.crt".into(),
            Err("/no/such/root.crt: No such file or directory"),
        ),
    ];
    for (settings, expected) in cases {
        let outcome = server.is_encrypted(&settings).await;
        match (&outcome, expected) {
            (Ok(encrypted), Ok(expected)) => assert_eq!(*encrypted, expected, "{settings}"),
            (Err(text), Err(expected)) => {
                assert!(text.contains(expected), "{settings}: {text}");
                assert!(
                    !text.contains('\n') && !text.contains("os error") && !text.contains("=pw"),
                    "{text}"
                );
            }
            _ => panic!("{settings}: {outcome:?}, not {expected:?}"),
        }
    }
}

#[tokio::test]
async fn the_modes_on_a_server_without_tls() {
    let postgres = postgres().await;
    for (mode, has_connection) in [
        ("disable", true),
        ("allow", true),
        ("prefer", true),
        ("require", false),
        ("verify-full sslrootcert=system", false),
    ] {
        let outcome = is_encrypted(postgres.url(), &format!("sslmode={mode}")).await;
        match has_connection {
            true => assert_eq!(outcome, Ok(false), "{mode}"),
            false => assert!(
                outcome.clone().is_err_and(|e| e.contains("server does not support TLS")),
                "{outcome:?}"
            ),
        }
    }
}

#[tokio::test]
async fn client_certificates_in_every_form() {
    let server = TlsServer::start().await;
    let client = server.root.issue("only_certificate");
    let ec = client.key.ec_key().unwrap();
    let encrypted = client.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"open").unwrap();
    let certificate = server.file("client.crt", &client.certificate_pem());
    let forms = [
        (server.file("pkcs8.key", &client.key_pem()), ""),
        (server.file("sec1.key", &ec.private_key_to_pem().unwrap()), ""),
        (server.file("encrypted.key", &encrypted), "sslpassword=open"),
    ];
    let common = format!("sslmode=require user=only_certificate sslcert={certificate}");
    for (key, more) in &forms {
        assert_eq!(server.is_encrypted(&format!("{common} sslkey={key} {more}")).await, Ok(true), "{key}");
    }
    let locked = server.is_encrypted(&format!("{common} sslkey={} sslpassword=shut", forms[2].0)).await;
    let expected = "encrypted.key: no private key in PEM form, or sslpassword does not open it";
    assert!(locked.clone().is_err_and(|e| e.ends_with(expected)), "{locked:?}");

    let open = &forms[0].0;
    fs::set_permissions(Path::new(open), fs::Permissions::from_mode(0o644)).unwrap();
    let outcome = server.is_encrypted(&format!("{common} sslkey={open}")).await;
    assert!(
        outcome.clone().is_err_and(|e| e.ends_with("this key is readable by other users; use chmod 600")),
        "{outcome:?}"
    );

    let without = server.is_encrypted("sslmode=require user=only_certificate").await;
    assert!(without.clone().is_err_and(|e| e.contains("certificate")), "{without:?}");
}

/// The error of a refused connection.
async fn refusal(settings: &str) -> Error {
    match Cluster::connect(Settings::parse(settings).unwrap(), AdapterOptions::default()).await {
        Ok(_) => panic!("{settings}: connected"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn refusals_say_where_and_why() {
    let postgres = postgres().await;
    let config = postgres.url().parse::<tokio_postgres::Config>().unwrap();
    let (user, port) = (config.get_user().unwrap(), config.get_ports()[0]);

    let wrong_password = format!("postgres://{user}:wrong-secret@127.0.0.1:{port}/pgio");
    let error = refusal(&wrong_password).await;
    let expected =
        format!("cannot connect to 127.0.0.1:{port}: password authentication failed for user \"{user}\"");
    assert_eq!(error.to_string(), expected);
    assert!(matches!(error, Error::Refused { .. }));
    assert_eq!(error.sqlstate(), Some("28P01"));

    let no_database = postgres.url().rsplit_once('/').unwrap().0.to_owned() + "/nowhere";
    let error = refusal(&no_database).await;
    assert!(
        matches!(&error, Error::Refused { reason, .. } if reason == "database \"nowhere\" does not exist"),
        "{error}"
    );
    assert_eq!(error.sqlstate(), Some("3D000"));

    let no_password = format!("host=127.0.0.1 port={port} user={user} dbname=pgio passfile=/dev/null");
    let error = refusal(&no_password).await;
    assert!(error.to_string().ends_with("the server requires a password, and none is set"), "{error}");

    // The port was bound and is closed now, so no other program gets it meanwhile.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = refusal(&format!("postgres://u@127.0.0.1:{free}/d")).await;
    assert_eq!(error.to_string(), format!("cannot connect to 127.0.0.1:{free}: connection refused"));
    assert!(matches!(error, Error::Connect { .. }));

    let error = refusal("postgres://u@no-such-host.invalid/d").await;
    assert!(
        error.to_string().starts_with("cannot connect to no-such-host.invalid:5432: unknown host"),
        "{error}"
    );

    let error = refusal("postgres://u@%2Fno%2Fsuch%2Fdirectory/d").await;
    let expected = "cannot connect to /no/such/directory/.s.PGSQL.5432: no such socket";
    assert_eq!(error.to_string(), expected);

    // A server that accepts a connection and sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = silent.local_addr().unwrap();
    let error = refusal(&format!("postgres://u@{at}/d?connect_timeout=1")).await;
    assert_eq!(error.to_string(), format!("cannot connect to {at}: no answer within 1s"));
}

#[tokio::test]
async fn the_first_of_several_hosts_that_will_do() {
    let first = own_server().await;
    let second = postgres().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let part = |url: &str| url.parse::<tokio_postgres::Config>().unwrap();
    let (one, two) = (part(&first.url()), part(second.url()));
    let password =
        |config: &tokio_postgres::Config| String::from_utf8(config.get_password().unwrap().to_vec()).unwrap();
    let files = TempDir::new().unwrap();
    let file = files.path().join("pass");
    let (port_one, port_two) = (one.get_ports()[0], two.get_ports()[0]);
    let lines = format!("*:{port_one}:*:*:{}\n*:{port_two}:*:*:{}\n", password(&one), password(&two));
    fs::write(&file, lines).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let database = two.get_dbname().unwrap();
    let user = one.get_user().unwrap();
    // Both servers have the database, but only one of them accepts writes.
    execute(&first.url(), &format!("CREATE DATABASE {database}")).await;
    execute(&first.url(), &format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await;

    let base = format!("user={user} dbname={database} passfile={}", file.display());
    let lands_on = async |hosts: &str, ports: &str, more: &str| {
        let name =
            format!("{hosts}{ports}{more}").chars().filter(|c| c.is_alphanumeric()).collect::<String>();
        let settings = format!("{base} host={hosts} port={ports} application_name={name} {more}");
        let cluster = Cluster::connect(Settings::parse(&settings).unwrap(), AdapterOptions::default()).await;
        let count =
            format!("SELECT (count(*) > 0)::text FROM pg_stat_activity WHERE application_name = '{name}'");
        match cluster {
            Err(error) => Err(error.to_string()),
            Ok(_cluster) if query_text(&first.url(), &count).await == "true" => Ok(port_one),
            Ok(_cluster) => Ok(port_two),
        }
    };
    let both = format!("{port_one},{port_two}");
    let a = "127.0.0.1,127.0.0.1";
    assert_eq!(lands_on(a, &both, "").await, Ok(port_two));
    assert_eq!(lands_on(a, &both, "target_session_attrs=any").await, Ok(port_one));
    assert_eq!(lands_on(a, &both, "target_session_attrs=read-write").await, Ok(port_two));
    assert_eq!(
        lands_on(a, &format!("{port_two},{port_one}"), "target_session_attrs=read-only").await,
        Ok(port_one)
    );
    assert_eq!(lands_on(a, &both, "target_session_attrs=primary").await, Ok(port_one));
    assert_eq!(lands_on(a, &both, "target_session_attrs=prefer-standby").await, Ok(port_one));
    assert_eq!(lands_on(a, &format!("{free},{port_two}"), "load_balance_hosts=random").await, Ok(port_two));
    assert_eq!(lands_on("no-such-host.invalid,127.0.0.1", &port_two.to_string(), "").await, Ok(port_two));
    let none = lands_on(a, &both, "target_session_attrs=standby").await;
    let expected = format!(
        "cannot connect to 127.0.0.1:{port_one}, 127.0.0.1:{port_two}: \
         127.0.0.1:{port_one}: the server is no standby; 127.0.0.1:{port_two}: the server is no standby"
    );
    assert_eq!(none, Err(expected));
}
