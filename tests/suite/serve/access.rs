//! The authentication of clients.

use std::time::{SystemTime, UNIX_EPOCH};

use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use pgio::Emitter;
use serde_json::{Value, json};

use crate::support::jwt::{self, forged, sign};
use crate::support::node::{AdapterVersion, Client, ClientOptions, NodePeer, ServerOptions};
use crate::support::pgio_serve::PgioServe;
use crate::support::postgres::postgres;

/// Files of secrets, deleted on drop.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

async fn come(serve: &PgioServe, peer: &NodePeer, auth: Value) -> Result<Client, String> {
    peer.try_client(ClientOptions::new(&serve.url()).auth(auth)).await.map_err(|error| error.message)
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

#[tokio::test]
async fn only_a_token_of_the_file_is_accepted() {
    let (files, postgres) = (Files::new(), postgres().await);
    let file = files.file("tokens", "first\n\nsecond\n");
    let serve = PgioServe::start(postgres.url(), &["--auth-token-file", &file]).await;
    let peer = NodePeer::start().await;
    for token in ["first", "second"] {
        come(&serve, &peer, json!({ "token": token })).await.unwrap();
    }
    let needed = "unauthorized: a token is needed, as auth: { token }";
    let unknown = "unauthorized: the token is not known here";
    let cases = [
        (json!({ "token": "third" }), unknown),
        (json!({ "token": "firs" }), unknown),
        (json!({ "token": "" }), needed),
        (json!({}), needed),
        (json!({ "token": 7 }), needed),
        (json!({ "token": ["first"] }), needed),
    ];
    for (auth, reason) in cases {
        assert_eq!(come(&serve, &peer, auth.clone()).await.err().as_deref(), Some(reason), "{auth}");
    }
    let refused = serve.metric("pgio_connections_refused_total{reason=\"wrong_token\"}").await;
    assert_eq!(refused, 2.0);
    assert_eq!(serve.metric("pgio_connections_total").await, 2.0);
    assert!(serve.log().iter().all(|line| !line.to_string().contains("third")));
}

#[tokio::test]
async fn a_jwt_brings_data_and_rooms_or_a_reason() {
    let (files, postgres) = (Files::new(), postgres().await);
    let file = files.file("secret", "a secret of thirty-two characters\n");
    let secret = jwt::secret(jwt::SECRET);
    let serve = PgioServe::start(postgres.url(), &["--jwt-key-file", &file]).await;
    let peer = NodePeer::start().await;
    let come = async |token: String| come(&serve, &peer, json!({ "token": token })).await;

    let claims =
        json!({ "sub": "alice", "exp": now() + 60, "nbf": now() - 1, "aud": "app", "rooms": ["r1", "r2"] });
    let alice = come(sign("HS256", &claims, &secret)).await.unwrap();
    let bob = json!({ "sub": "bob", "rooms": "r2" });
    let bob = come(sign("HS512", &bob, &secret)).await.unwrap();
    let emitter = Emitter::connect(postgres.url()).await.unwrap();
    emitter.to("r1").emit("one", 1).await.unwrap();
    emitter.to("r2").emit("two", 1).await.unwrap();
    assert_eq!(alice.wait_for(2).await[0].event, "one");
    assert_eq!(bob.wait_for(1).await[0].event, "two");

    // Other servers see the claims as the data of the socket.
    let node = NodePeer::start().await;
    let server = node.server(ServerOptions::new(AdapterVersion::V05, postgres.url())).await;
    server.wait_for_server_count("/", 2).await;
    let sockets = server.io().to("r1").fetch_sockets().await.unwrap();
    assert_eq!((sockets[0].id.as_str(), &sockets[0].data), (alice.id(), &claims));

    assert_eq!(sockets[0].handshake["address"], "127.0.0.1");
    assert_eq!(sockets[0].handshake["secure"], false);

    let wrong = jwt::secret("another secret of as many letters");
    let plain = json!({ "sub": "eve", "exp": now() + 60 });
    let cases = [
        (sign("HS256", &json!({ "exp": now() - 2 }), &secret), "the token has expired"),
        (sign("HS256", &json!({ "nbf": now() + 60 }), &secret), "the token is not valid yet"),
        (sign("HS256", &plain, &wrong), "the token's signature does not match"),
        (sign("HS256", &json!({ "rooms": 7 }), &secret), "the token's rooms are neither"),
        (sign("HS256", &json!({ "rooms": ["r", 7] }), &secret), "the token's rooms are neither"),
        (forged(&json!({ "alg": "none" }), &plain, ""), "the token"),
        (forged(&json!({ "alg": "None", "typ": "JWT" }), &plain, ""), "the token"),
        (forged(&json!({ "alg": "HS256" }), &plain, ""), "the token"),
        (forged(&json!({ "alg": "RS256" }), &plain, "AAAA"), "the token's algorithm is not accepted"),
        ("nonsense".into(), "the token is malformed"),
        (String::new(), "a token is needed"),
    ];
    for (token, reason) in cases {
        let error = come(token.clone()).await.err().unwrap_or_else(|| panic!("{token} was let in"));
        assert!(error.starts_with(&format!("unauthorized: {reason}")), "{token}: {error}");
    }
    assert_eq!(serve.metric("pgio_connections_total").await, 2.0);
}

#[tokio::test]
async fn a_public_key_takes_only_the_algorithms_of_its_kind() {
    let (files, postgres) = (Files::new(), postgres().await);
    let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let ec = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let claims = json!({ "sub": "alice", "exp": now() + 60 });
    let peer = NodePeer::start().await;
    let (rs, es) = (sign("RS256", &claims, &rsa), sign("ES256", &claims, &ec));
    for (name, key, good, bad) in [("rsa", &rsa, &rs, &es), ("ec", &ec, &es, &rs)] {
        let pem = key.public_key_to_pem().unwrap();
        let serve = PgioServe::start(postgres.url(), &["--jwt-key-file", &files.file(name, &pem)]).await;
        let come = async |token: &str| come(&serve, &peer, json!({ "token": token })).await;
        come(good).await.unwrap();
        // The public key as a secret: everyone may know it.
        let text = String::from_utf8(pem).unwrap();
        let confused =
            [text.as_str(), text.trim_end()].map(|secret| sign("HS256", &claims, &jwt::secret(secret)));
        for token in confused.iter().chain([bad, &forged(&json!({ "alg": "none" }), &claims, "")]) {
            let error = come(token).await.err().unwrap_or_else(|| panic!("{name}: {token} was let in"));
            assert!(error.starts_with("unauthorized: "), "{error}");
        }
    }
}
