//! A Postgres server of one's own, for as long as this program runs: `cargo run --example private_postgres --features private`.
//!
//! Nothing has to be configured and nothing stays behind, however the program ends. As root, the server runs as the
//! user `postgres` or `nobody`.

use pgio::postgres::private::PrivateServer;

#[tokio::main]
async fn main() -> pgio::Result<()> {
    let mut server = PrivateServer::builder().start().await?;
    println!("{}", server.url());
    tokio::select! {
        _ = tokio::signal::ctrl_c() => server.stop().await,
        error = server.died() => Err(error),
    }
}
