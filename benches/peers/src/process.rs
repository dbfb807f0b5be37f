//! Processes of the benchmark: starting them, talking to them, and their values in `/proc`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::network::Host;

/// How long a process may take to print its next line. 10,000 handshakes are the longest work.
const PATIENCE: Duration = Duration::from_secs(180);

/// A process that is ended when it is dropped. Its standard input and output are pipes.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("can't start {command:?}"))?;
        let input = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().context("stdout is a pipe")?).lines();
        let (send, output) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        Ok(Self { child, input, output })
    }

    /// This program again on a host, as one of the roles of [`crate::load`].
    pub(crate) fn role(host: &Host, arguments: &[String]) -> Result<Self> {
        Self::start(host.command(std::env::current_exe()?).arg("load").args(arguments))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its output.
    pub(crate) fn line(&mut self) -> Result<String> {
        match self.output.recv_timeout(PATIENCE) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("the process says nothing"),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the process has ended: {}", self.child.wait()?)
            }
        }
    }

    /// Writes a line to its input.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("stdin is a pipe")?;
        writeln!(input, "{line}").context("the process has ended")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time that a process has used. It ignores threads that have ended, of which a relay has none.
pub(crate) fn cpu(id: u32) -> Duration {
    // In nanoseconds, where the kernel keeps them by thread.
    let tasks = fs::read_dir(format!("/proc/{id}/task"));
    let times = tasks.into_iter().flatten().filter_map(|task| {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    let nanoseconds: u64 = times.sum();
    if nanoseconds > 0 {
        return Duration::from_nanos(nanoseconds);
    }
    // In hundredths of a second: fields 14 and 15, counted after the name in parentheses.
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

/// The resident memory of a process, in KiB.
pub(crate) fn resident(id: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no VmRSS")?.parse()?)
}
