//! Plays the trace of a session again, on a bare machine, without network and clock.
//!
//! ```text
//! replay TRACE [--qlog FILE] [--steps]
//! ```
//!
//! Ends with 1 where the machine does something else than what was recorded, or the trace is none, and
//! says where. `--qlog` writes the messages and objects of the session as qlog, up to there; `--steps`
//! prints each step. `relay --trace DIR` makes traces.

mod qlog;
#[path = "../common/report.rs"]
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use smoq::machine::trace::Replay;

/// Plays the trace of a session again, on a bare machine, without network and clock
#[derive(Parser)]
#[command(name = "replay", version)]
struct Options {
    /// What `relay --trace` recorded
    trace: PathBuf,
    /// Writes the messages and objects of the session there, as qlog
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
    let mut replay = Replay::new(&trace).with_context(|| format!("{name} is no trace"))?;
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
