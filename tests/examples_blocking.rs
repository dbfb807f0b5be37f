//! The examples that need nobody else run to their end.

use std::process::{Command, Output};

/// Runs an example as its user would; cargo has built it together with this test.
fn run(example: &str, arg: &str) -> String {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.set_file_name("examples");
    path.push(example);
    path.set_extension(std::env::consts::EXE_EXTENSION);
    let Output { status, stdout, stderr } = Command::new(path).arg(arg).output().unwrap();
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{stdout}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}

#[test]
fn game_loop() {
    let printed = run("game_loop", "2");
    assert!(printed.contains("player 31 saw"), "{printed}");
    assert!(printed.contains("nobody speaks: server step: worst 0 items"), "{printed}");
}

#[test]
fn custom_executor() {
    let printed = run("custom_executor", "7");
    let ticks: Vec<_> = printed.lines().collect();
    let expected: Vec<_> = (0..7).map(|n| format!("tick {n}")).collect();
    assert_eq!(ticks, expected);
}
