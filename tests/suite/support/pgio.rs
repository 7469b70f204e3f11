//! The `pgio` program itself, in a clean environment.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::schema;

/// The deadline of every wait for the program.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of a run of the program.
#[derive(Debug)]
pub struct Outcome {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    schema: Option<&'static str>,
}

impl Outcome {
    /// Each line of stdout as JSON, checked against the command's schema.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| parse(line, self.schema)).collect()
    }

    /// Panics with the whole outcome, unless the status is 0.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.status, 0, "{self:?}");
        self
    }
}

/// A line of JSON, checked against the schema.
#[track_caller]
fn parse(line: &str, schema: Option<&str>) -> Value {
    let value = serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON: {line}: {error}"));
    schema::check(schema.expect("a command that prints JSON"), &value);
    value
}

/// The schema of the output of a command.
fn schema_of(command: &Command) -> Option<&'static str> {
    let arguments = command.as_std().get_args().map(|argument| argument.to_string_lossy().into_owned());
    schema::of_command(&arguments.collect::<Vec<_>>())
}

/// The program with this database, and nothing else in its environment.
pub fn pgio(url: &str, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command.env("DATABASE_URL", url);
    command
}

/// The program with no database configured.
pub fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgio"));
    command.args(arguments).env_clear().env("HOME", "/nonexistent").env("PGIO_STATE_DIR", "/nonexistent");
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub async fn run(command: &mut Command) -> Outcome {
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("it starts");
    Outcome {
        status: output.status.code().expect("it is not killed"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        schema: schema_of(command),
    }
}

/// Runs the program to its end with this input.
pub async fn run_with_input(command: &mut Command, input: impl Into<Vec<u8>>) -> Outcome {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.stdin();
    let input = input.into();
    let writer = tokio::spawn(async move {
        // A program that fails early reads no further.
        stdin.write_all(&input).await.ok();
    });
    let outcome = running.end().await;
    writer.await.expect("no panic");
    outcome
}

/// The program while it runs.
pub struct Running {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: JoinHandle<String>,
    notes: tokio::sync::watch::Receiver<String>,
    schema: Option<&'static str>,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let (told, notes) = tokio::sync::watch::channel(String::new());
        let stderr = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                told.send_modify(|text| *text += &format!("{line}\n"));
            }
            told.borrow().clone()
        });
        Running { child, stdout, stderr, notes, schema: schema_of(command) }
    }

    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("stdin is piped")
    }

    /// The next line of stdout.
    pub async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.stdout.next_line()).await;
        match line {
            Ok(line) => line.expect("UTF-8").expect("stdout is open"),
            Err(_) => panic!("no line in time; stderr: {}", *self.notes.borrow()),
        }
    }

    /// The next line of stdout as JSON, checked against the command's schema.
    pub async fn json(&mut self) -> Value {
        parse(&self.line().await, self.schema)
    }

    /// Waits until stderr contains that text.
    pub async fn wait_for_note(&mut self, text: &str) {
        let found = timeout(PATIENCE, self.notes.wait_for(|notes| notes.contains(text)));
        let is_found = found.await.is_ok_and(|found| found.is_ok());
        assert!(is_found, "{text:?} does not come; stderr: {}", *self.notes.borrow());
    }

    /// Waits for a line of stderr that contains that text.
    pub async fn wait_for_line(&mut self, text: &str) -> String {
        self.wait_for_note(text).await;
        let notes = self.notes.borrow();
        notes.lines().find(|line| line.contains(text)).expect("it was found").to_owned()
    }

    /// Waits until stderr contains that text this many times.
    pub async fn wait_for_notes(&mut self, text: &str, times: usize) {
        let found = timeout(PATIENCE, self.notes.wait_for(|notes| notes.matches(text).count() >= times));
        let is_found = found.await.is_ok_and(|found| found.is_ok());
        assert!(is_found, "{text:?} does not come {times} times; stderr: {}", *self.notes.borrow());
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it runs");
        kill(Pid::from_raw(pid.try_into().expect("a pid")), signal).expect("it can be signalled");
    }

    /// Waits for the end, even if output is unread.
    pub async fn wait_for_end(&mut self) {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it can be waited for");
    }

    /// Closes the pipe that the program writes to, then waits for its end.
    pub async fn end_without_reader(mut self) -> (i32, String) {
        drop(self.stdout);
        let status =
            timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it can be waited for");
        (status.code().expect("it is not killed"), self.stderr.await.expect("no panic"))
    }

    /// Waits for the end. Returns the rest of the output.
    pub async fn end(mut self) -> Outcome {
        let mut stdout = String::new();
        let read = timeout(PATIENCE, self.stdout.get_mut().read_to_string(&mut stdout)).await;
        read.expect("stdout ends").expect("UTF-8");
        let status =
            timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it can be waited for");
        let stderr = self.stderr.await.expect("no panic");
        let status = status.code().expect("it is not killed");
        Outcome { status, stdout, stderr, schema: self.schema }
    }
}
