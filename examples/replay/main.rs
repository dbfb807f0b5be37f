//! Replays the trace of a session on a bare machine, without network or clock.
//!
//! ```text
//! replay TRACE [--qlog FILE] [--steps]
//! ```
//!
//! Exits with 1 and the position if the machine deviates from the recording, or if the file is not a trace.
//! `--qlog` writes the messages and objects of the session as qlog, up to that position. `--steps` prints
//! each step. `relay --trace DIR` creates traces.

mod qlog;
#[path = "../common/report.rs"]
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use smoq::machine::trace::Replay;

/// Replays the trace of a session on a bare machine, without network or clock
#[derive(Parser)]
#[command(name = "replay", version)]
struct Options {
    /// A file recorded by `relay --trace`
    trace: PathBuf,
    /// Writes the messages and objects of the session to this file, as qlog
    #[arg(long, value_name = "FILE")]
    qlog: Option<PathBuf>,
    /// Prints each step
    #[arg(long)]
    steps: bool,
}

fn main() -> ExitCode {
    report::exit_code(run(Options::parse()))
}

fn run(Options { trace: file, qlog, steps: prints }: Options) -> Result<()> {
    let trace = std::fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
    let name = file.display();
    let mut replay = Replay::new(&trace).with_context(|| format!("{name} is not a trace"))?;
    let mut log = qlog::Log::new(replay.config(), replay.start());
    let mut steps = 0_u64;
    let mut result = Ok(());
    while let Some(step) = replay.next() {
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        if prints {
            println!("{} {step:?}", replay.now().as_micros());
        }
        log.step(replay.now(), &step);
        steps += 1;
    }
    if let Some(qlog) = qlog {
        std::fs::write(&qlog, log.finish().to_string())
            .with_context(|| format!("can't write {}", qlog.display()))?;
    }
    result.with_context(|| format!("{name} can't be replayed"))?;
    let (version, records) = (replay.version(), replay.records());
    println!("replay: ok, {version}, {records} records, {steps} steps");
    Ok(())
}
