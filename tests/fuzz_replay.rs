//! Replays the fuzzing corpus and every input that once failed.

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/coding.rs"]
mod coding;
#[path = "../fuzz/src/session_bytes.rs"]
mod session_bytes;
#[path = "../fuzz/src/session_ops.rs"]
mod session_ops;

/// Runs `target` on each file of its corpus and its regressions.
fn replay(name: &str, target: fn(&[u8])) {
    for directory in ["corpus", "regressions"] {
        let directory =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(directory).join(name);
        let mut files = 0;
        for entry in fs::read_dir(&directory).unwrap() {
            let file = entry.unwrap().path();
            println!("{}", file.display());
            target(&fs::read(file).unwrap());
            files += 1;
        }
        assert!(files > 0, "no file in {}", directory.display());
    }
}

#[test]
fn the_corpus_of_coding_passes() {
    replay("coding", coding::run);
}

#[test]
fn the_corpus_of_session_bytes_passes() {
    replay("session_bytes", session_bytes::run);
}

#[test]
fn the_corpus_of_session_ops_passes() {
    replay("session_ops", session_ops::run);
}
