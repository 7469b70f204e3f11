//! The number of worker threads.

use crate::support::pgio_serve::{PgioServe, command};
use crate::support::postgres::postgres;
use crate::support::raw_websocket::RawWebsocket;

#[tokio::test]
async fn a_server_runs_on_one_worker_thread_where_that_is_wanted() {
    let postgres = postgres().await;
    let mut command = command(["serve", "--listen", "127.0.0.1:0", "--database-url", postgres.url()]);
    command.env("TOKIO_WORKER_THREADS", "1");
    let serve = PgioServe::spawn(command).await;
    RawWebsocket::connect(serve.address()).await;
    let tasks = std::fs::read_dir(format!("/proc/{}/task", serve.pid())).unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
    assert_eq!(names.filter(|name| name.starts_with("tokio")).count(), 1);
}
