//! Live media through a relay, all in one process, over real UDP on loopback.
//!
//! ```text
//! cargo run --release --example demo           five seconds of video and audio
//! cargo run --release --example demo FILE      a file, in order and whole
//! ```
//!
//! The relay is quinn on tokio. The publisher is a plain thread that steps its network in a loop. Half of
//! the subscribers are on tokio, and half share a thread in a loop. The last line is `demo: ok`, or the
//! number of frames that were neither delivered nor skipped by rule. SIGTERM and SIGINT end the demo early
//! with a failure, because the result is unknown then.
#![allow(clippy::disallowed_methods, reason = "an application has clocks and threads")]

mod content;
mod file;
mod live;
mod net;
#[path = "../common/report.rs"]
mod report;
#[path = "../common/signals.rs"]
mod signals;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Live media through a relay, all in one process, over real UDP on loopback
#[derive(Parser)]
#[command(name = "demo", version)]
struct Options {
    /// Sends this file, in order and whole, instead of five seconds of video and audio
    file: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match Options::parse().file {
        None => live::run(),
        Some(path) => file::run(&path),
    };
    match result {
        Ok(summary) => {
            println!("demo: ok, {summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("demo: FAILED, {}", report::sentence(&error));
            ExitCode::FAILURE
        }
    }
}
