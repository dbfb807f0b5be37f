#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod census;
pub mod coding;
mod error;
mod hop;
mod limits;
pub mod machine;
#[cfg(feature = "std")]
pub mod model;
mod path;
mod peer;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod slab;
pub mod stream;
mod subscription;
mod time;
mod version;

pub use bytes;

pub use coding::{BoundsExceeded, DecodeError, EncodeError};
pub use error::Error;
pub use hop::{Cost, Hop, Hops, TooManyHops};
pub use limits::Limits;
pub use machine::PathEstimate;
#[cfg(feature = "std")]
pub use model::*;
pub use path::Path;
pub use peer::{Peer, Role};
pub use subscription::{Subscription, TrackInfo};
pub use time::{Instant, Timescale, Timestamp};
pub use version::{Agreed, UnknownVersion, Version, Versions};
