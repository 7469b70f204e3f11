//! Stops processes with SIGSTOP, and ensures that they continue.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// Processes that are frozen until this is dropped, or until `longest` has passed: a helper process resumes them even
/// if the harness is killed.
pub struct Frozen {
    pids: Vec<i32>,
    helper: Child,
}

impl Frozen {
    /// Stops these processes.
    pub fn processes(pids: &[u32], longest: Duration) -> Self {
        Self::freeze(pids, longest, false)
    }

    /// Stops a Postgres server with all of its sessions.
    pub fn server(postmaster: u32, longest: Duration) -> Self {
        Self::freeze(&[postmaster], longest, true)
    }

    fn freeze(pids: &[u32], longest: Duration, with_children: bool) -> Self {
        let mut frozen = Vec::new();
        for &pid in pids {
            stop(pid, &mut frozen);
            if with_children {
                // The parent is frozen, so no new children appear.
                children(pid).into_iter().for_each(|child| stop(child, &mut frozen));
            }
        }
        let list = frozen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let script = format!("sleep {}; kill -s CONT {list} 2>/dev/null", longest.as_secs() + 5);
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let helper = command.process_group(0).spawn();
        match helper {
            Ok(helper) => Self { pids: frozen, helper },
            Err(error) => {
                frozen.iter().for_each(|pid| wake(*pid));
                panic!("sh cannot be started: {error}");
            }
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.pids.iter().rev().for_each(|pid| wake(*pid));
        // The helper and its `sleep` have a separate process group.
        if let Some(group) = self.helper.id().and_then(|pid| i32::try_from(pid).ok()) {
            killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
        }
    }
}

fn stop(pid: u32, stopped: &mut Vec<i32>) {
    let pid = i32::try_from(pid).expect("a pid");
    // A session may end at any time.
    if kill(Pid::from_raw(pid), Signal::SIGSTOP).is_ok() {
        stopped.push(pid);
    }
}

fn wake(pid: i32) {
    // The process may have been killed in the meantime.
    kill(Pid::from_raw(pid), Signal::SIGCONT).ok();
}

/// The children of a process.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The fields after the name, which is in parentheses and may contain any character.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
