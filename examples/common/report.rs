//! How an example ends: with an exit code, and after an error with one line for a person.

use std::process::ExitCode;

/// Prints an error and its causes: `NAME: what was tried: why it failed: why that was`.
#[allow(dead_code, reason = "the demo ends in words of its own")]
pub(crate) fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {}", env!("CARGO_BIN_NAME"), sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes. Some errors tell their cause themselves: it is not repeated then.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut told = String::new();
    let mut last = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told.clone_from(&cause);
        } else if !last.contains(&cause) {
            told = format!("{told}: {cause}");
        }
        last = cause;
    }
    told
}
