//! Guide pages, with code that is compiled and run by the tests.

#[doc = include_str!("guide/driving.md")]
pub mod driving {}

#[doc = include_str!("guide/adapters.md")]
pub mod adapters {}

#[doc = include_str!("guide/game_loops.md")]
pub mod game_loops {}

#[doc = include_str!("guide/memory.md")]
pub mod memory {}

#[doc = include_str!("guide/priorities.md")]
pub mod priorities {}

#[doc = include_str!("guide/observing.md")]
pub mod observing {}

#[doc = include_str!("guide/simulation.md")]
pub mod simulation {}

#[doc = include_str!("guide/mistakes.md")]
pub mod mistakes {}
