//! Running examples as processes and waiting for their lines.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, SystemTime};

/// How long to wait for a line, far longer than any of them takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The command of an example, without arguments.
pub(crate) fn example(name: &str) -> Command {
    // This test is target/PROFILE/deps/NAME.
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap().join("examples");
    // Examples are built once, before any of them runs, because a build would delay running ones.
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        // `cargo test` builds them, except when it runs this test alone.
        let all = ["clock", "custom_executor", "demo", "game_loop", "relay", "replay"];
        if all.iter().all(|name| is_fresh(&built.join(name))) {
            return;
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--examples"]);
        // Cargo sets variables for the tests of a package. Build scripts of dependencies depend on them, so
        // with them everything would be built again, and once more by the next ordinary build.
        let cargo_variables = std::env::vars_os().map(|(name, _)| name).filter(|name| {
            let name = name.to_string_lossy();
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        });
        cargo_variables.for_each(|name| {
            cargo.env_remove(name);
        });
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success());
    });
    Command::new(built.join(name))
}

/// Whether the binary is newer than all of its sources, which Cargo lists in a file: `BINARY: FILE FILE`.
fn is_fresh(built: &Path) -> bool {
    let Some(made) = modified(built) else { return false };
    let Ok(list) = std::fs::read_to_string(built.with_extension("d")) else { return false };
    let Some((_, files)) = list.split_once(": ") else { return false };
    // A space in a name is escaped with a backslash.
    let files = files.trim_end().replace("\\ ", "\0");
    let mut files = files.split(' ').map(|file| file.replace('\0', " "));
    files.all(|file| modified(file.as_ref()).is_some_and(|at| at <= made))
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

/// The lines of a pipe. A thread reads them, so that the process never blocks.
struct Lines {
    lines: Receiver<String>,
    seen: String,
}

impl Lines {
    #[expect(clippy::disallowed_methods, reason = "two pipes are read at once")]
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self { lines, seen: String::new() }
    }

    /// The next line, `None` at the end.
    fn next(&mut self) -> Option<String> {
        let line = match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => panic!("no line and no end in time"),
        };
        self.seen += &line;
        self.seen.push('\n');
        Some(line)
    }

    fn rest(&mut self) -> String {
        let seen = self.seen.len();
        while self.next().is_some() {}
        self.seen[seen..].to_owned()
    }
}

/// A running process, which is killed with its test. A failed test prints the output.
pub(crate) struct Running {
    command: String,
    child: Child,
    out: Lines,
    err: Lines,
}

/// A process that has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// The output that was not read yet.
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Self { command: format!("{command:?}"), child, out, err }
    }

    /// The next line on stdout; empty at the end.
    pub(crate) fn line(&mut self) -> String {
        self.out.next().unwrap_or_default()
    }

    /// The next line on stderr that contains `words`.
    pub(crate) fn says(&mut self, words: &str) -> String {
        loop {
            let line = self.err.next();
            let line = line.unwrap_or_else(|| panic!("{} never printed {words:?}", self.command));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The part of stderr that was read so far.
    pub(crate) fn said(&self) -> &str {
        &self.err.seen
    }

    /// Sends TERM, INT or KILL.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for the process to end.
    pub(crate) fn end(mut self) -> Ended {
        let (out, err) = (self.out.rest(), self.err.rest());
        Ended { status: self.child.wait().unwrap(), out, err }
    }

    /// Waits for the process to end successfully, and returns the rest of its output.
    pub(crate) fn rest(mut self) -> String {
        let rest = self.out.rest();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status} of {}", self.command);
        rest
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails if the process has ended already, which is the usual case.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            self.out.seen.extend(self.out.lines.iter().map(|line| line + "\n"));
            self.err.seen.extend(self.err.lines.iter().map(|line| line + "\n"));
            let Self { command, out, err, .. } = self;
            eprintln!("{command} printed:\n{}and to stderr:\n{}", out.seen, err.seen);
        }
    }
}
