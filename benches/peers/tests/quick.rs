//! The quick form runs, and writes what the full form writes.

use std::process::Command;

#[test]
fn the_quick_form_measures_every_case_and_writes_its_results() {
    let out = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    let _ = std::fs::remove_dir_all(&out);
    let program = env!("CARGO_BIN_EXE_smoq-bench-peers");
    let run = Command::new(program).args(["--quick", "--out"]).arg(&out).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{stderr}");
    assert!(!stderr.contains("failed"), "{stderr}");
    let line = stdout.lines().find(|line| line.starts_with("model/polled/100/moq-net ours="));
    assert!(line.is_some_and(|line| line.contains(" ratio=")), "{stdout}");
    for file in ["model.json", "heap.json", "allocations.json", "table.md", "ratios.svg"] {
        assert!(out.join(file).is_file(), "no {file}: {stderr}");
    }
}
