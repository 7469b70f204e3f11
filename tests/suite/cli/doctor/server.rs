//! Faults of the server: it is read-only, far away, or its clock is wrong.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;
use std::time::Duration;

use pgio::postgres::private::Shutdown;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::doctor;
use crate::support::attachments::{create_attachment_table, execute};
use crate::support::pgio::{pgio, run};
use crate::support::postgres::{own_server, postgres};
use crate::support::proxy::{Mode, Proxy};

#[tokio::test]
async fn a_standby() {
    let mut server = own_server().await;
    create_attachment_table(&server.url()).await;
    let url = server.url();
    server.take_down(Shutdown::Fast).await.unwrap();
    let data = server.directory().join("data");
    let signal = data.join("standby.signal");
    fs::write(&signal, "").unwrap();
    let owner = fs::metadata(&data).unwrap();
    chown(&signal, Some(owner.uid()), Some(owner.gid())).unwrap();
    server.start_again().await.unwrap();
    let diagnosis = doctor(&url, &[]).await;
    diagnosis.check("primary", "fail", "this is a standby", "target_session_attrs=read-write");
    assert!(!diagnosis.has("delivery") && diagnosis.has("table"), "{diagnosis:?}");
}

#[tokio::test]
async fn transactions_that_may_not_write() {
    let postgres = postgres().await;
    create_attachment_table(postgres.url()).await;
    let database = postgres.url().rsplit('/').next().unwrap();
    execute(postgres.url(), &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"))
        .await;
    let diagnosis = doctor(postgres.url(), &[]).await;
    diagnosis.check("primary", "fail", "read-only", "default_transaction_read_only");
    execute(postgres.url(), &format!("SET transaction_read_only = off; ALTER DATABASE {database} RESET ALL"))
        .await;
    doctor(postgres.url(), &[]).await.check("primary", "ok", "", "");
}

#[tokio::test]
async fn a_clock_that_is_wrong() {
    let postgres = postgres().await;
    let files = TempDir::new().unwrap();
    let (source, library) = (files.path().join("hour.c"), files.path().join("hour.so"));
    let text = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <time.h>\n\
        int clock_gettime(clockid_t clock, struct timespec *time) {\n\
        int (*next)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, \"clock_gettime\");\n\
        int status = next(clock, time);\n\
        if (clock == CLOCK_REALTIME) time->tv_sec += 3600;\n\
        return status; }\n";
    fs::write(&source, text).unwrap();
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl").status();
    assert!(compiled.unwrap().success());
    let mut command = pgio(postgres.url(), &["doctor", "-o", "json"]);
    let outcome = run(command.env("LD_PRELOAD", &library)).await;
    let findings = outcome.json();
    let clock = findings.iter().find(|finding| finding["check"] == "clock").unwrap();
    assert_eq!(clock["status"], "warn", "{clock}");
    assert!(clock["detail"].as_str().unwrap().starts_with("the server's clock is 3600 s behind"), "{clock}");
    assert!(clock["advice"].as_str().unwrap().contains("NTP"), "{clock}");
    doctor(postgres.url(), &[]).await.check("clock", "ok", "agrees", "");
}

#[tokio::test]
async fn a_server_far_away() {
    let postgres = postgres().await;
    let place = postgres.url().rsplit_once('@').unwrap().1;
    let (address, _) = place.split_once('/').unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = postgres.url().replace(address, &listener.local_addr().unwrap().to_string());
    let address = address.to_owned();
    let _line = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(&address).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(slowly(near_in, far_out));
            tokio::spawn(slowly(far_in, near_out));
        }
    }));
    let diagnosis = doctor(&far, &[]).await;
    diagnosis.check("latency", "warn", "a round trip takes ", "near the database");
    diagnosis.check("delivery", "warn", "arrived after ", "load");
}

#[tokio::test]
async fn a_server_that_falls_silent() {
    let postgres = postgres().await;
    let proxy = Proxy::start(postgres.url()).await;
    proxy.set(Mode::SilentWhenReady);
    let diagnosis = doctor(proxy.url(), &[]).await;
    diagnosis.check("connection", "fail", "no answer within", "");
    diagnosis.check("queue", "fail", "no answer within", "");
}

/// A connection with a latency of 140 ms.
async fn slowly(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut bytes = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        sleep(Duration::from_millis(140)).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
