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

use std::path::PathBuf;
use std::process::ExitCode;

use smoq::machine::trace::Replay;

/// Anything that ends it early.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<String, Failure> {
    let mut args = pico_args::Arguments::from_env();
    let qlog: Option<PathBuf> = args.opt_value_from_str("--qlog")?;
    let prints = args.contains("--steps");
    let file: PathBuf = args.free_from_str()?;
    if let Some(unknown) = args.finish().first() {
        return Err(format!("what is {unknown:?}?").into());
    }
    let trace = std::fs::read(&file)?;
    let mut replay = Replay::new(&trace)?;
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
        std::fs::write(qlog, log.finish().to_string())?;
    }
    result?;
    let version = replay.version();
    Ok(format!("replay: ok, {version}, {} records, {steps} steps", replay.records()))
}
