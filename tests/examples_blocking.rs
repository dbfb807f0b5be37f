//! The examples that need nobody else run to their end.

use std::process::Command;

/// Runs an example as its user would, and gives what it printed.
fn run(example: &str, arg: &str) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--example", example]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.args(["--", arg]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

#[test]
fn game_loop() {
    let printed = run("game_loop", "2");
    assert!(printed.contains("player 31 saw"), "{printed}");
    assert!(printed.contains("nobody speaks"), "{printed}");
}

#[test]
fn custom_executor() {
    let printed = run("custom_executor", "7");
    let ticks: Vec<_> = printed.lines().collect();
    let expected: Vec<_> = (0..7).map(|n| format!("tick {n}")).collect();
    assert_eq!(ticks, expected);
}
