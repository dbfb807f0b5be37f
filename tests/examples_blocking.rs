//! The examples that need nobody else run to their end.

#[path = "examples/run.rs"]
#[allow(dead_code, reason = "these need less than the others")]
mod run;

use run::{Running, example};

#[test]
fn game_loop() {
    let printed = Running::start(example("game_loop").arg("2")).rest();
    assert!(printed.contains("player 31 saw"), "{printed}");
    assert!(printed.contains("nobody speaks"), "{printed}");
}

#[test]
fn custom_executor() {
    let printed = Running::start(example("custom_executor").arg("7")).rest();
    let ticks: Vec<_> = printed.lines().collect();
    let expected: Vec<_> = (0..7).map(|n| format!("tick {n}")).collect();
    assert_eq!(ticks, expected);
}
