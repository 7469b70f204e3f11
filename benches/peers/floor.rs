//! What Postgres itself can do: `pgbench`, whose transactions hold as many notifications as `psql`'s.

use std::io;
use std::process::{Command, Stdio};

use super::pgbench;
use super::programs::{Programs, successful};
use super::publishing::TRANSACTION;

/// How long it runs, in seconds.
const SECONDS: u32 = 3;

/// How many notifications a second one session commits. `None` where `pgbench` is not installed.
pub fn notifications_per_second(programs: &Programs) -> io::Result<Option<f64>> {
    let Some(pgbench) = pgbench::find() else { return Ok(None) };
    let script = programs.file("floor.sql");
    // Numbers that differ, as Postgres delivers equal notifications of a transaction once.
    let before = r#"{"uid":"emitter","nsp":"/","type":3,"source":"_sio_adapter","data":{"opts":{"rooms":["r1"],"except":[],"flags":{}},"packet":{"type":2,"data":["tick","#;
    std::fs::write(
        &script,
        format!(
            "SELECT pg_notify('socket.io#/', '{before}' || n || ']}}}}}}') FROM generate_series(1, {TRANSACTION}) n;"
        ),
    )?;
    let mut command = Command::new(pgbench);
    command.args(["-n", "-M", "prepared", "-T", &SECONDS.to_string(), "-f"]).arg(&script).arg(programs.url());
    let output = command.stderr(Stdio::null()).output()?;
    successful(&command, output.status)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate =
        text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    let rate = rate.ok_or_else(|| io::Error::other("pgbench printed no rate"))?;
    Ok(Some(rate * TRANSACTION as f64))
}
