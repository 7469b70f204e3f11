//! A real terminal that runs the program: tmux, on a separate socket.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The deadline of every wait for the screen.
const PATIENCE: Duration = Duration::from_secs(30);

/// The script of the terminal: it runs the program, then prints the status and the terminal settings.
const SCRIPT: &str = r#""$@"; echo "status $?"; stty -a; exec sleep 1000"#;

pub struct Terminal {
    directory: TempDir,
}

impl Terminal {
    /// Starts the program in a terminal of that size, with additional environment variables.
    pub fn start(size: (u16, u16), url: &str, environment: &[&str], arguments: &[&str]) -> Terminal {
        let terminal = Terminal { directory: TempDir::new().unwrap() };
        let (columns, rows) = (size.0.to_string(), size.1.to_string());
        let database = format!("DATABASE_URL={url}");
        let mut command = vec!["new-session", "-d", "-x", &columns, "-y", &rows, "sh", "-c", SCRIPT, "sh"];
        command.extend(["env", "-i", "TERM=tmux-256color", "HOME=/nonexistent", &database]);
        command.extend(environment);
        command.push(env!("CARGO_BIN_EXE_pgio"));
        command.extend(arguments);
        terminal.tmux(&command);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.directory.path().join("socket");
        let output = tmux(&socket, arguments);
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The text of the screen.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The same, with the escape sequences of its colours.
    pub fn screen_with_colours(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Waits until the screen shows that text. Returns the whole screen.
    pub async fn wait_for(&self, text: &str) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
            assert!(tokio::time::Instant::now() < deadline, "{text:?} does not come:\n{screen}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the program reads single keys. Before that, the terminal turns Ctrl-C into a signal for all its
    /// processes.
    pub async fn reads_keys(&self) {
        let tty = self.tmux(&["display-message", "-p", "#{pane_tty}"]);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let settings =
                Command::new("stty").args(["-a", "-F", tty.trim()]).output().expect("stty is there");
            if String::from_utf8_lossy(&settings.stdout).contains("-isig") {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "it does not read keys:\n{}", self.screen());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Presses keys, by their names in tmux: `q`, `Enter`, `C-c`.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Signals the program.
    pub fn signal(&self, signal: Signal) {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let child = Command::new("pgrep").args(["-P", shell.trim()]).output().expect("pgrep is there");
        let child = String::from_utf8(child.stdout).expect("a pid").trim().parse().expect("one child");
        kill(Pid::from_raw(child), signal).expect("it can be signalled");
    }

    /// Whether the program uses the alternate screen, with a hidden cursor.
    pub fn is_taken_over(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]) == "1 0\n"
    }

    /// Waits for the end of the program with that status, and checks that the terminal settings are restored.
    pub async fn ends_with(&self, status: i32) -> String {
        self.wait_for(&format!("status {status}")).await;
        let screen = self.wait_for("extproc").await;
        let settings: Vec<_> = screen.split_whitespace().collect();
        assert!(settings.contains(&"icanon") && settings.contains(&"echo"), "{screen}");
        assert_eq!(self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]), "0 1\n");
        screen
    }
}

fn tmux(socket: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new("tmux");
    command.arg("-S").arg(socket).args(["-f", "/dev/null"]).args(arguments);
    command.env("LC_ALL", "C.UTF-8").env_remove("TMUX");
    command.output().unwrap_or_else(|error| panic!("cannot start tmux ({error}); install it"))
}

impl Drop for Terminal {
    fn drop(&mut self) {
        tmux(&self.directory.path().join("socket"), &["kill-server"]);
    }
}
