//! Live media through a relay, all in one process, over real UDP on loopback.
//!
//! ```text
//! cargo run --release --example demo           five seconds of video and audio
//! cargo run --release --example demo FILE      a file, in order and whole
//! ```
//!
//! The relay is quinn on tokio. The publisher is a plain thread that steps its network in a loop. Half
//! of the subscribers are on tokio, half share a thread in a loop. The last line is `demo: ok`, or what
//! was lost: neither delivered nor skipped by rule.
#![allow(clippy::disallowed_methods, reason = "an application has clocks and threads")]

mod content;
mod file;
mod live;
mod net;

use std::process::ExitCode;

/// Anything that ends the demo early.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let result = match (args.next(), args.next()) {
        (None, _) => live::run(),
        (Some(path), None) => file::run(path.as_ref()),
        _ => Err("usage: demo [FILE]".into()),
    };
    match result {
        Ok(summary) => {
            println!("demo: ok, {summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("demo: FAILED, {error}");
            ExitCode::FAILURE
        }
    }
}
