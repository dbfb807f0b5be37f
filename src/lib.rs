//! Media over QUIC as a state machine: you bring the QUIC stack, the clock and the loop.
//!
//! smoq speaks moq-lite 01 to 07 and the IETF's moq-transport drafts 14 to 22, as publisher,
//! subscriber and relay. A [`Machine`](machine::Machine) takes the events of one QUIC connection
//! and returns writes, actions and deadlines. On top of it, producers and consumers publish and read
//! broadcasts, tracks, groups and frames, on any async executor or without one. Nothing in this crate
//! does I/O, spawns a task or reads a clock, so equal inputs give equal outputs. An adapter connects
//! it to QUIC: [`smoq-quinn`](https://docs.rs/smoq-quinn) for tokio and smol,
//! [`smoq-blocking`](https://docs.rs/smoq-blocking) for game loops and threads, or your own.
//!
//! # Layers
//!
//! | layer | start at | what it does |
//! |---|---|---|
//! | model | [`Origin`], [`BroadcastProducer`], [`TrackProducer`], [`TrackConsumer`] | publishes and reads, with a bounded cache |
//! | sessions | [`Client`], [`Server`], [`Session`] | connect origins to a peer |
//! | driver | [`Driver`] | runs one session: an adapter passes it inputs and takes its outputs |
//! | [`machine`] | [`Machine`](machine::Machine) | the protocol without the model; `no_std` with `alloc` |
//! | [`coding`] | [`coding::lite`], [`coding::ietf`] | the messages of every version; `no_std` with `alloc` |
//!
//! Each layer uses only those below it. [`Limits`] bounds the memory that peers and applications
//! can use, and [`Error`] is the reason for the end of an operation or session.
//!
//! Each wait of a handle comes in three forms: `x().await`, `poll_x(cx)` for executors, and `try_x()`, which answers at
//! once and registers no waker.
//!
//! # Example
//!
//! Publish a frame and read it back. Between two processes the code is the same; there a session
//! connects the two origins.
//!
//! ```
//! use smoq::{Client, Origin, Subscription, Timestamp, Track};
//!
//! let origin = Origin::default().produce();
//! let mut broadcast = origin.create_broadcast("room/alice")?;
//! let mut video = broadcast.create_track(Track::new("video").timescale(90_000))?;
//! video.write_frame(Timestamp::new(3_000), "key frame")?;
//!
//! let alice = origin.consume().broadcast("room/alice").expect("alice is announced");
//! let mut video = alice.subscribe_track("video", Subscription::default())?;
//! let frame = video.latest_frame().expect("a complete frame");
//! assert_eq!(frame.payload(), b"key frame");
//!
//! // A session of this client serves the origin to its peer. An adapter dials and drives it.
//! let client = Client::new().with_publish(origin.consume());
//! # drop(client);
//! # Ok::<(), smoq::Error>(())
//! ```
//!
//! # Features
//!
//! - `std` (default): the model, sessions and the driver. Without it [`machine`] and [`coding`]
//!   remain, for `no_std` with `alloc`.
//! - `tracing`: events of sessions, refusals and exceeded limits for the [`tracing`] crate. There is
//!   no event per frame.
//! - `stream`: the handles that read as streams of the crate `futures-core`.
//! - `sim`: the module [`sim`], which connects two sessions in memory on a virtual clock, for tests
//!   and benchmarks. It is not covered by semantic versioning.
//!
//! [`tracing`]: https://docs.rs/tracing
#![cfg_attr(feature = "sim", doc = "[`sim`]: crate::sim")]
#![cfg_attr(not(feature = "sim"), doc = "[`sim`]: https://docs.rs/smoq/latest/smoq/sim/")]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

mod auth_token;
mod census;
pub mod coding;
mod coding_error;
mod error;
#[cfg(all(feature = "std", any(doc, doctest)))]
pub mod guide;
mod hop;
mod limits;
pub mod machine;
#[cfg(feature = "std")]
mod model;
mod path;
mod peer;
mod properties;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod slab;
pub mod stream;
mod subscription;
mod time;
mod version;

pub use bytes;

pub use auth_token::AuthToken;
pub use coding::{BoundsExceeded, DecodeError, EncodeError};
pub use error::{Error, LimitKind};
pub use hop::{Cost, Hop, Hops, TooManyHops};
pub use limits::Limits;
pub use machine::PathEstimate;
#[cfg(feature = "std")]
pub use model::*;
pub use path::Path;
pub use peer::{Peer, Role};
pub use properties::Properties;
pub use subscription::{Subscription, TrackInfo};
pub use time::{Instant, Timescale, Timestamp};
pub use version::{Agreed, UnknownVersion, Version, Versions};

/// Compiles and runs the examples of the README.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
