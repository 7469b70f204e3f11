//! Tokens that must not admit a client.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use serde_json::{Value, json};

use crate::support::jwt::{self, SECRET, sign, sign_with};
use crate::support::node::{Client, ClientOptions, NodePeer};
use crate::support::pgio_serve::{PgioServe, fails, until};
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

fn with_secret(claims: Value) -> String {
    jwt::with_secret(&claims)
}

async fn come(serve: &PgioServe, peer: &NodePeer, nsp: &str, token: &str) -> Result<Client, String> {
    let options = ClientOptions::new(&serve.url()).namespace(nsp).auth(json!({ "token": token }));
    peer.try_client(options).await.map_err(|error| error.message)
}

/// The error of a client that is refused.
async fn refusal(serve: &PgioServe, peer: &NodePeer, nsp: &str, token: &str) -> String {
    come(serve, peer, nsp, token).await.err().unwrap_or_else(|| panic!("{token} was admitted to {nsp}"))
}

fn rsa() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

#[tokio::test]
async fn a_public_key_is_never_a_secret_whatever_surrounds_it() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), postgres().await);
    let key = rsa();
    let pem = String::from_utf8(key.public_key_to_pem().unwrap()).unwrap();
    let base64 = BASE64_STANDARD.encode(key.public_key_to_der().unwrap());
    let peer = NodePeer::start().await;
    let claims = json!({ "sub": "eve" });
    let good = sign("RS256", &claims, &key);
    let texts = [format!("# the key of the realm\n{pem}"), format!("\u{feff}{pem}"), base64.clone()];
    for text in texts {
        let file = write(directory.path(), "key", &text);
        let serve = PgioServe::start(postgres.url(), &["--jwt-key-file", &file]).await;
        come(&serve, &peer, "/", &good).await.unwrap();
        for secret in [text.as_str(), text.trim_end(), text.trim_start_matches('\u{feff}')] {
            let forged = sign("HS256", &claims, &jwt::secret(secret));
            assert!(refusal(&serve, &peer, "/", &forged).await.contains("algorithm"));
        }
    }
    let certificate = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    let commented = format!("# a comment\n{base64}");
    for text in
        ["x", "thirty-one bytes are too few...", "ssh-rsa AAAAB3NzaC1yc2E me@host", &certificate, &commented]
    {
        let file = write(directory.path(), "key", text);
        let (status, stderr) = fails(&["--database-url", postgres.url(), "--jwt-key-file", &file]).await;
        assert!(status == 2 && stderr.contains("key: holds "), "{text}: {stderr}");
    }
}

#[tokio::test]
async fn a_token_admits_to_its_audience_of_its_issuer_in_its_namespaces() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), postgres().await);
    let file = write(directory.path(), "key", SECRET);
    let flags = ["--audience", "chat", "--issuer", "https://id", "--issuer", "https://old"];
    let hosted = ["-n", "/", "-n", "/org/{id}", "--jwt-key-file", &file];
    let serve = PgioServe::start(postgres.url(), &[&hosted[..], &flags[..]].concat()).await;
    let peer = NodePeer::start().await;
    let token = |audience: Value, issuer: &str, namespaces: Value| {
        let mut claims = json!({ "aud": audience, "iss": issuer });
        if !namespaces.is_null() {
            claims["namespaces"] = namespaces;
        }
        with_secret(claims)
    };
    for (token, nsp) in [
        (token(json!("chat"), "https://id", Value::Null), "/"),
        (token(json!(["other", "chat"]), "https://old", json!("/")), "/"),
        (token(json!("chat"), "https://id", json!(["/", "/org/7"])), "/org/7"),
        (token(json!("chat"), "https://id", json!("/org/*")), "/org/8"),
    ] {
        come(&serve, &peer, nsp, &token).await.unwrap();
    }
    let other_namespace = "unauthorized: the token is not for this namespace";
    for (token, nsp, reason) in [
        (
            token(json!("other"), "https://id", Value::Null),
            "/",
            "unauthorized: the token is for another audience",
        ),
        (with_secret(json!({ "iss": "https://id" })), "/", "unauthorized: the token is for another audience"),
        (
            token(json!("chat"), "https://evil", Value::Null),
            "/",
            "unauthorized: the token is of another issuer",
        ),
        (with_secret(json!({ "aud": "chat" })), "/", "unauthorized: the token is of another issuer"),
        (token(json!("chat"), "https://id", json!("/org/7")), "/", other_namespace),
        (token(json!("chat"), "https://id", json!(["/org/7"])), "/org/70", other_namespace),
        (token(json!("chat"), "https://id", json!([])), "/", other_namespace),
    ] {
        assert_eq!(refusal(&serve, &peer, nsp, &token).await, reason);
    }
    // The server started nothing for the refused namespaces.
    assert_eq!(serve.metric("pgio_channels_listening").await, 5.0);
}

fn jwk(key: &PKey<Private>, id: &str) -> Value {
    let rsa = key.rsa().unwrap();
    let part = |number: &openssl::bn::BigNumRef| BASE64_URL_SAFE_NO_PAD.encode(number.to_vec());
    json!({ "kty": "RSA", "use": "sig", "kid": id, "n": part(rsa.n()), "e": part(rsa.e()) })
}

#[tokio::test]
async fn a_key_set_is_read_again_when_it_changes() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), postgres().await);
    let (old, new) = (rsa(), rsa());
    let file = write(directory.path(), "keys", json!({ "keys": [jwk(&old, "old")] }).to_string());
    let serve = PgioServe::start(postgres.url(), &["--jwks", &file]).await;
    let peer = NodePeer::start().await;
    let token =
        |id: &str, key| sign_with(json!({ "alg": "RS256", "kid": id }), &json!({ "sub": "ada" }), key);
    come(&serve, &peer, "/", &token("old", &old)).await.unwrap();
    let unknown = "unauthorized: the key of the token is not known here";
    assert_eq!(refusal(&serve, &peer, "/", &token("new", &new)).await, unknown);
    let bad_signature = "unauthorized: the token's signature does not match";
    assert_eq!(refusal(&serve, &peer, "/", &token("old", &new)).await, bad_signature);

    write(directory.path(), "keys", json!({ "keys": [jwk(&new, "new"), jwk(&old, "old")] }).to_string());
    serve.wait_for_log("keys or tokens reloaded").await;
    come(&serve, &peer, "/", &token("new", &new)).await.unwrap();
    come(&serve, &peer, "/", &token("old", &old)).await.unwrap();

    for wrong in [json!({}), json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] }), json!({ "keys": [] })] {
        let wrong = write(directory.path(), "wrong", wrong.to_string());
        let (status, stderr) = fails(&["--database-url", postgres.url(), "--jwks", &wrong]).await;
        assert!(status == 2 && stderr.contains("wrong: holds "), "{stderr}");
    }
}

#[tokio::test]
async fn the_list_of_tokens_has_comments_and_is_read_again() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), postgres().await);
    let file = write(directory.path(), "tokens", "# for the app\nfirst\n");
    let serve = PgioServe::start(postgres.url(), &["--auth-token-file", &file]).await;
    let peer = NodePeer::start().await;
    come(&serve, &peer, "/", "first").await.unwrap();
    refusal(&serve, &peer, "/", "# for the app").await;
    write(directory.path(), "tokens", "second\n");
    serve.signal(Signal::SIGHUP);
    until("the new token is accepted", async || come(&serve, &peer, "/", "second").await.is_ok()).await;
    refusal(&serve, &peer, "/", "first").await;
    // A file without tokens would refuse every client.
    write(directory.path(), "tokens", "# none\n");
    serve.wait_for_log("cannot reload keys or tokens; keeping the old ones").await;
    come(&serve, &peer, "/", "second").await.unwrap();
}

#[tokio::test]
async fn a_client_is_disconnected_when_its_token_expires() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), postgres().await);
    let file = write(directory.path(), "key", SECRET);
    let serve = PgioServe::start(postgres.url(), &["--jwt-key-file", &file]).await;
    let keeping =
        PgioServe::start(postgres.url(), &["--jwt-key-file", &file, "--disconnect-expired=false"]).await;
    let peer = NodePeer::start().await;
    let expires = now() + 8;
    let short = with_secret(json!({ "exp": expires }));
    let long = with_secret(json!({ "exp": now() + 3600 }));
    let ended = come(&serve, &peer, "/", &short).await.unwrap();
    let staying = [
        come(&keeping, &peer, "/", &short).await.unwrap(),
        come(&serve, &peer, "/", &long).await.unwrap(),
        come(&serve, &peer, "/", &with_secret(json!({}))).await.unwrap(),
    ];
    assert_eq!(ended.wait_for_disconnect().await, "io server disconnect");
    assert!((expires..expires + 5).contains(&now()));
    assert_eq!(refusal(&serve, &peer, "/", &short).await, "unauthorized: the token has expired");
    for client in &staying {
        assert_eq!(client.lifecycle().await.len(), 1);
    }
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"expired\"}").await, 1.0);
    assert_eq!(serve.metric("pgio_connections{transport=\"websocket\"}").await, 2.0);
}

#[tokio::test]
async fn a_client_is_disconnected_when_its_token_is_no_longer_listed() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), postgres().await);
    let file = write(directory.path(), "tokens", "first\nsecond\n");
    let serve = PgioServe::start(postgres.url(), &["--auth-token-file", &file, "-n", "/", "-n", "/a"]).await;
    let keeping =
        PgioServe::start(postgres.url(), &["--auth-token-file", &file, "--disconnect-expired=false"]).await;
    let peer = NodePeer::start().await;
    let revoked =
        [come(&serve, &peer, "/", "first").await.unwrap(), come(&serve, &peer, "/a", "first").await.unwrap()];
    let staying = [
        come(&serve, &peer, "/", "second").await.unwrap(),
        come(&keeping, &peer, "/", "first").await.unwrap(),
    ];
    write(directory.path(), "tokens", "second\nthird\n");
    for client in &revoked {
        assert_eq!(client.wait_for_disconnect().await, "io server disconnect");
    }
    let told = serve.wait_for_log("disconnecting a client whose token is no longer valid").await;
    assert_eq!(told["fields"]["reason"], "revoked");
    keeping.wait_for_log("keys or tokens reloaded").await;
    for client in &staying {
        assert_eq!(client.lifecycle().await.len(), 1);
    }
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"revoked\"}").await, 2.0);
    assert_eq!(keeping.metric("pgio_clients_cut_off_total{reason=\"revoked\"}").await, 0.0);
    // A file that cannot be used revokes nothing.
    write(directory.path(), "tokens", "# none\n");
    serve.wait_for_log("cannot reload keys or tokens; keeping the old ones").await;
    assert_eq!(staying[0].lifecycle().await.len(), 1);
}

#[tokio::test]
async fn a_client_is_disconnected_when_the_key_of_its_token_is_no_longer_listed() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), postgres().await);
    let (old, new) = (rsa(), rsa());
    let keys = |keys: &[Value]| write(directory.path(), "keys", json!({ "keys": keys }).to_string());
    let file = keys(&[jwk(&old, "old"), jwk(&new, "new")]);
    let serve = PgioServe::start(postgres.url(), &["--jwks", &file]).await;
    let peer = NodePeer::start().await;
    let token =
        |id: &str, key| sign_with(json!({ "alg": "RS256", "kid": id }), &json!({ "sub": "ada" }), key);
    let nameless = sign("RS256", &json!({ "sub": "ada" }), &old);
    let revoked = [
        come(&serve, &peer, "/", &token("old", &old)).await.unwrap(),
        come(&serve, &peer, "/", &nameless).await.unwrap(),
    ];
    let staying = come(&serve, &peer, "/", &token("new", &new)).await.unwrap();
    keys(&[jwk(&new, "new")]);
    for client in &revoked {
        assert_eq!(client.wait_for_disconnect().await, "io server disconnect");
    }
    assert_eq!(staying.lifecycle().await.len(), 1);
    assert_eq!(serve.metric("pgio_clients_cut_off_total{reason=\"revoked\"}").await, 2.0);

    let secret = write(directory.path(), "secret", SECRET);
    let serve = PgioServe::start(postgres.url(), &["--jwt-key-file", &secret]).await;
    let client = come(&serve, &peer, "/", &with_secret(json!({}))).await.unwrap();
    write(directory.path(), "secret", "another secret of as many letters");
    serve.signal(Signal::SIGHUP);
    assert_eq!(client.wait_for_disconnect().await, "io server disconnect");
}

#[tokio::test]
async fn the_claims_of_a_token_decide_which_rooms_may_be_joined() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), postgres().await);
    let file = write(directory.path(), "key", SECRET);
    let flags = ["--jwt-key-file", &file, "--allow-join", "user:{sub}", "team:{teams}:*"];
    let serve = PgioServe::start(postgres.url(), &flags).await;
    let peer = NodePeer::start().await;
    let ada = with_secret(json!({ "sub": "ada", "teams": ["red", "blue"] }));
    let (ada, star) = (
        come(&serve, &peer, "/", &ada).await.unwrap(),
        come(&serve, &peer, "/", &with_secret(json!({ "sub": "*" }))).await.unwrap(),
    );
    for room in ["user:ada", "team:red:1", "team:blue:1"] {
        assert!(ada.emit_with_ack("join", json!([room])).await.unwrap().is_array(), "{room}");
    }
    for room in ["user:bob", "team:green:1", "user:{sub}", "user:"] {
        assert!(ada.emit_with_ack("join", json!([room])).await.unwrap()["error"].is_string(), "{room}");
    }
    for room in ["user:ada", "team:red:1", "team::1"] {
        assert!(star.emit_with_ack("join", json!([room])).await.unwrap()["error"].is_string(), "{room}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_of_tokens_are_delayed() {
    let (directory, postgres) = (tempfile::tempdir().unwrap(), postgres().await);
    let file = write(directory.path(), "tokens", "right\n");
    let serve = PgioServe::start(postgres.url(), &["--auth-token-file", &file]).await;
    let guess = async |n: usize| {
        let mut client = RawWebsocket::open(serve.address()).await;
        let start = Instant::now();
        client.send(&format!("40{{\"token\":\"guess {n}\"}}")).await;
        client.hears("44{\"message\":\"unauthorized: the token is not known here\"}").await;
        start.elapsed()
    };
    let start = Instant::now();
    let guesses = join_all((0..40).map(guess));
    let guest = async {
        // A client with a token does not wait for the refusals.
        let refused = "pgio_connections_refused_total{reason=\"wrong_token\"}";
        serve.wait_for_metric(refused, 40.0).await;
        let start = Instant::now();
        let mut client = RawWebsocket::open(serve.address()).await;
        client.send("40{\"token\":\"right\"}").await;
        assert!(client.hears("40{\"sid\"").await);
        start.elapsed()
    };
    let (waits, admitted) = tokio::join!(guesses, guest);
    assert!(admitted < Duration::from_secs(1), "{admitted:?}");
    let slow = waits.iter().filter(|wait| **wait > Duration::from_millis(150)).count();
    assert!(slow >= 15, "{waits:?}");
    assert!(start.elapsed() > Duration::from_millis(3500), "{:?}", start.elapsed());

    // A single guessing client is disconnected.
    let mut client = RawWebsocket::open(serve.address()).await;
    for n in 0..500 {
        client.send(&format!("40{{\"token\":\"guess {n}\"}}")).await;
        client.send(&format!("40/x{n},")).await;
    }
    client.read_to_end().await;
    assert!(serve.metric("pgio_clients_cut_off_total{reason=\"refused_too_often\"}").await >= 1.0);
}
