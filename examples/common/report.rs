//! The end of an example: an exit code, and after an error one line of text.

use std::process::ExitCode;

/// Prints an error and its causes: `NAME: operation: cause: cause of the cause`.
#[allow(dead_code, reason = "the demo prints its own result")]
pub(crate) fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {}", env!("CARGO_BIN_NAME"), sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes. A cause that an error already includes is not repeated.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    let mut last = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence.clone_from(&cause);
        } else if !last.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
        last = cause;
    }
    sentence
}
