//! The exposure of a server, as seen from outside.

use super::doctor;
use crate::support::pgio::{pgio, run};
use crate::support::pgio_serve::{PgioServe, command};
use crate::support::postgres::postgres;

#[tokio::test]
async fn protected_and_unprotected_servers_are_told_apart() {
    let postgres = postgres().await;
    run(&mut pgio(postgres.url(), &["attachments", "init"])).await.succeeded();
    let open = PgioServe::start(postgres.url(), &[]).await;
    let url = open.url();
    let diagnosis = doctor(postgres.url(), &["--server", &url]).await;
    diagnosis.check("tokens", "warn", &format!("{url} connects clients without a token"), "--jwt-key-file");
    diagnosis.check("metrics", "warn", "serves /metrics to every client", "proxy");
    assert!(diagnosis.has("origins"), "{diagnosis:?}");

    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "a token that nobody guesses").unwrap();
    let closed = ["--auth-token-file", tokens.path().to_str().unwrap(), "--path", "/chat"];
    let closed = PgioServe::start(postgres.url(), &closed).await;
    let url = format!("http://{}/chat", closed.address());
    doctor(postgres.url(), &["--server", &url]).await.check(
        "tokens",
        "ok",
        "refuses clients without a token",
        "",
    );

    let nobody = doctor(postgres.url(), &["--server", "http://127.0.0.1:1"]).await;
    nobody.check(
        "exposure",
        "fail",
        "cannot reach http://127.0.0.1:1: Connection refused",
        "start the server",
    );
    let wrong = run(&mut pgio(postgres.url(), &["doctor", "--server", "ftp://localhost"])).await;
    assert_eq!(wrong.status, 2, "{wrong:?}");
}

#[tokio::test]
async fn a_server_warns_at_its_start_of_unprotected_access() {
    let postgres = postgres().await;
    let here = PgioServe::start(postgres.url(), &[]).await;
    let public = ["serve", "--listen", "0.0.0.0:0", "--database-url", postgres.url()];
    let public = PgioServe::spawn(command(public)).await;
    let line = public.wait_for_log("no authentication: every client may connect without a token").await;
    assert_eq!(
        (&line["level"], &line["fields"]["remedy"]),
        (&"WARN".into(), &"--jwt-key-file or --auth-token-file".into())
    );
    public.wait_for_log("/metrics is public: it shares the port of the clients").await;
    // The tests give the password as an argument.
    let of_arguments = "pgio::cli::serve::secrets";
    let mut warnings = here.log().into_iter().filter(|line| line["level"] == "WARN");
    assert!(warnings.all(|line| line["target"] == of_arguments), "{:?}", here.log());
}
