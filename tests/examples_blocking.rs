//! The examples that need no peer run to their end.

#[path = "examples/run.rs"]
#[allow(dead_code, reason = "these tests use only some of it")]
mod run;

use run::{Running, example};

#[test]
fn the_game_loop_runs() {
    let printed = Running::start(example("game_loop").arg("2")).rest();
    assert!(printed.contains("player 31 saw"), "{printed}");
    assert!(printed.contains("idle: server"), "{printed}");
}

#[test]
fn the_custom_executor_runs() {
    let printed = Running::start(example("custom_executor").arg("7")).rest();
    let ticks: Vec<_> = printed.lines().collect();
    let expected: Vec<_> = (0..7).map(|n| format!("tick {n}")).collect();
    assert_eq!(ticks, expected);
}
