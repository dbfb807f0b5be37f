//! One interface over the peers.
//!
//! A [`Peer`] is one origin with any number of sessions. The [`Role`] of a session says whether it
//! publishes from the origin, subscribes into it, or both. A peer whose sessions do both is a relay.

pub mod cf017;
pub mod lite016;
pub mod net03;
pub mod smoq_blocking;
pub mod smoq_quinn;

mod link;
mod modern;
mod smoq_model;
mod subscription;

use std::{
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet};

pub use link::{Accepted, Link, Listener};
pub use modern::{Datagrams, Modern, ModernTrack};
pub use subscription::{Event, Group, Subscription};

use crate::within;

/// How a session uses its peer's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Announces the origin's broadcasts to the other side.
    Publish,
    /// Inserts the other side's broadcasts into the origin.
    Subscribe,
    /// Both, as in a relay.
    Both,
}

impl Role {
    fn publishes(self) -> bool {
        self != Self::Subscribe
    }

    fn subscribes(self) -> bool {
        self != Self::Publish
    }
}

/// Why something ended or was refused, as the peer reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The peer's error as text.
    pub text: String,
    /// The code, if the peer reports that it came from the other side.
    pub code: Option<Code>,
}

/// A code that came over the wire, in the peer's own number space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// From RESET_STREAM or STOP_SENDING.
    Stream(u32),
    /// From the session's close.
    Session(u32),
    /// From REQUEST_ERROR (moq-transport).
    Request(u32),
    /// The status of PUBLISH_DONE (moq-transport).
    Done(u32),
}

impl Failure {
    fn local(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: None }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} ({code:?})", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for Failure {}

/// How to subscribe.
#[derive(Clone, Debug)]
pub struct Options {
    /// Higher is more urgent.
    pub priority: u8,
    /// The maximum age of a group (not in moq-lite 0.16 and moq-transport 0.17). Zero requests only the
    /// newest group.
    pub max_age: Duration,
    /// The first group wanted (not moq-lite 0.16 and moq-transport 0.17).
    pub start: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { priority: 0, max_age: Duration::from_secs(30), start: None }
    }
}

/// The behavior of a peer in a version, where peers differ. Tests use it instead of skipping cases that
/// fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// As either: frames arrive with the publisher's timestamps.
    pub timestamps: bool,

    /// As publisher: a subscriber that comes late gets the newest group from its start.
    pub newest_group: bool,
    /// As publisher: signals a clean end as the version defines it.
    pub tells_end: bool,
    /// As publisher: signals a clean end with a status of its own, if not as the version defines it.
    pub own_end: bool,
    /// As publisher: a reset of the stream may overtake that status.
    pub loses_own_end: bool,
    /// As publisher: withdraws PUBLISH_NAMESPACE only by the FIN of its stream.
    pub withdraws_by_fin: bool,
    /// As publisher: also withdraws what it announced in answer to a request.
    pub withdraws_initial: bool,
    /// As publisher: refuses an unknown track with this code; `None` if a reset may overtake it.
    pub not_found: Option<u32>,
    /// As publisher: resets a group that was aborted with the application's code 9 with this code.
    pub aborted: u32,

    /// As subscriber: distinguishes a clean end from a failure.
    pub knows_end: bool,
    /// As subscriber: understands [`own_end`](Self::own_end).
    pub knows_own_end: bool,
    /// As subscriber: notices that a broadcast is gone, and a session's broadcasts with it.
    pub notices_gone: bool,
    /// As subscriber: ends its tracks when the session is lost.
    pub ends_with_session: bool,
    /// As a listening subscriber: treats the FIN of a PUBLISH_NAMESPACE as its withdrawal.
    pub notices_fin: bool,
    /// As subscriber: lets the publisher know that no reader is left.
    pub unsubscribes: bool,
    /// As subscriber: reports the code with which a subscription was refused.
    pub refusal_codes: bool,
    /// As subscriber: reports the code with which a group was reset.
    pub reset_codes: bool,
}

impl Abilities {
    /// The default for a peer in moq-lite. (Timestamps were added in 05.)
    pub const LITE: Self = Self {
        timestamps: false,
        newest_group: true,
        tells_end: true,
        own_end: false,
        loses_own_end: false,
        withdraws_by_fin: false,
        withdraws_initial: true,
        not_found: Some(0x33),
        aborted: 64 + 9,
        knows_end: true,
        knows_own_end: false,
        notices_gone: true,
        ends_with_session: true,
        notices_fin: true,
        unsubscribes: true,
        refusal_codes: true,
        reset_codes: true,
    };

    /// The default for a peer in moq-transport.
    pub const MOQT: Self = Self { not_found: Some(0x10), aborted: 0x1, ..Self::LITE };
}

/// Whether the version's frames have timestamps, as moq-lite has them from 05 on.
fn has_timestamps(version: &str) -> bool {
    !matches!(version, "moq-lite-01" | "moq-lite-02" | "moq-lite-03" | "moq-lite-04")
}

/// Whether the version is a draft of moq-transport.
pub fn is_moqt(version: &str) -> bool {
    version.starts_with("moqt-")
}

/// A peer: one origin, any number of sessions. Needs a tokio runtime.
pub trait Peer: Send + Sync + 'static {
    /// The crate and its release.
    const NAME: &'static str;
    /// The names of the versions that it speaks here: their ALPN identifiers, except where versions share
    /// one.
    const VERSIONS: &'static [&'static str];

    type Broadcast: Broadcast;

    fn new() -> Self;

    /// Its behavior in one of its versions.
    fn abilities(version: &str) -> Abilities;

    /// As subscriber: the code that its reader sees when the other side refuses a subscription with `code`.
    fn refused_with(version: &str, code: u32) -> Option<Code> {
        let seen = if is_moqt(version) { Code::Request(code) } else { Code::Stream(code) };
        Self::abilities(version).refusal_codes.then_some(seen)
    }

    /// As subscriber: the code that its reader sees when the other side resets a group with `code`.
    fn reset_with(version: &str, code: u32) -> Code {
        let _ = version;
        Code::Stream(code)
    }

    /// Listens on 127.0.0.1 for any number of sessions, each one of `versions`.
    fn serve(&self, role: Role, versions: &[&str]) -> Listener;

    /// Connects to `addr`, offering `versions`; any certificate will do.
    fn dial(
        &self,
        role: Role,
        addr: SocketAddr,
        versions: &[&str],
    ) -> impl Future<Output = Result<Link, Failure>> + Send;

    /// A broadcast that is invisible until [`Broadcast::announce`].
    fn broadcast(&self, path: &str) -> Result<Self::Broadcast, Failure>;

    /// The announcements in this origin, now and from now on.
    fn announcements(&self) -> Announcements;

    /// Subscribes to a track of a broadcast that is announced now; never waits for an
    /// announcement. The other side's refusal may be this result or the subscription's end.
    fn subscribe(
        &self,
        path: &str,
        track: &str,
        options: Options,
    ) -> impl Future<Output = Result<Subscription, Failure>> + Send;

    /// Subscribes and expects a refusal without a single group, which it returns.
    fn refused(&self, path: &str, track: &str) -> impl Future<Output = Failure> + Send {
        async move {
            let (groups, end) = match self.subscribe(path, track, Options::default()).await {
                Err(refusal) => return refusal,
                Ok(subscription) => subscription.drain().await,
            };
            assert!(
                groups.is_empty(),
                "{} groups of {path}:{track} instead of a refusal",
                groups.len()
            );
            end.expect_err("the track ended cleanly instead of being refused")
        }
    }
}

/// A published broadcast; dropping it unannounces it.
pub trait Broadcast: Send + 'static {
    type Track: Track;

    /// A new track; hold it for as long as it should be served.
    fn track(&mut self, name: &str) -> Result<Self::Track, Failure>;

    /// Makes the broadcast visible. Once only.
    fn announce(&mut self) -> Result<(), Failure>;
}

/// A published track. Dropping it unfinished is a failure that subscribers see.
pub trait Track: Send + 'static {
    type Group: Writer;

    /// Opens the next group.
    fn append(&mut self) -> Result<Self::Group, Failure>;

    /// Opens the group with this sequence number.
    fn create(&mut self, sequence: u64) -> Result<Self::Group, Failure>;

    /// From now on frames carry this timestamp instead of the time since the track was created. No effect
    /// on a peer without timestamps.
    fn at(&mut self, millis: u64);

    /// No more groups: a clean end. Keep the track until subscribers have seen it.
    fn finish(&mut self) -> Result<(), Failure>;

    /// Ends the track with an application's code.
    fn abort(self, code: u16) -> Result<(), Failure>;

    /// Waits for the first subscriber.
    fn used(&self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Waits until no subscriber is left.
    fn unused(&self) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Appends a finished group of `frames`, and returns its sequence number.
    fn write(&mut self, frames: &[Bytes]) -> Result<u64, Failure> {
        let mut group = self.append()?;
        for frame in frames {
            group.frame(frame.clone())?;
        }
        let sequence = group.sequence();
        group.finish()?;
        Ok(sequence)
    }

    /// Appends finished groups, one every `pace`, or all at once if that is zero.
    fn write_all(
        &mut self,
        groups: impl Iterator<Item = Vec<Bytes>> + Send,
        pace: Duration,
    ) -> impl Future<Output = Result<(), Failure>> + Send {
        async move {
            let mut ticks = (!pace.is_zero()).then(|| tokio::time::interval(pace));
            for frames in groups {
                if let Some(ticks) = &mut ticks {
                    ticks.tick().await;
                }
                self.write(&frames)?;
            }
            Ok(())
        }
    }
}

/// The timestamps of frames, in milliseconds, for peers that have them.
#[derive(Clone, Copy)]
enum Clock {
    Since(Instant),
    At(u64),
}

impl Clock {
    fn new() -> Self {
        Self::Since(Instant::now())
    }

    fn millis(self) -> u64 {
        match self {
            Self::Since(start) => start.elapsed().as_millis() as u64,
            Self::At(millis) => millis,
        }
    }
}

/// A group that is being written. End it with [`finish`](Writer::finish) or [`abort`](Writer::abort): the
/// peers differ in what a plain drop does.
pub trait Writer: Send + 'static {
    fn sequence(&self) -> u64;
    fn frame(&mut self, payload: Bytes) -> Result<(), Failure>;
    fn finish(self) -> Result<(), Failure>;
    fn abort(self, code: u16) -> Result<(), Failure>;
}

/// A change of the announcements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Announcement {
    Announced(String),
    /// Still announced, by another route (moq-net only).
    Updated(String),
    Gone(String),
}

/// The announcements of an origin, in the peer's order.
pub struct Announcements {
    peer: &'static str,
    seen: Vec<Announcement>,
    incoming: mpsc::UnboundedReceiver<Announcement>,
    _task: JoinSet<()>,
}

impl Announcements {
    fn spawn<F>(
        peer: &'static str,
        task: impl FnOnce(mpsc::UnboundedSender<Announcement>) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (outgoing, incoming) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(task(outgoing));
        Self { peer, seen: Vec::new(), incoming, _task: tasks }
    }

    /// The next change.
    pub async fn next(&mut self) -> Announcement {
        self.next_for("any announcement").await
    }

    /// Waits until `path` is announced, skipping everything else.
    pub async fn announced(&mut self, path: &str) {
        let want = Announcement::Announced(path.to_owned());
        while self.next_for(format!("{path} to be announced")).await != want {}
    }

    /// Waits until `path` is no longer announced, skipping everything else.
    pub async fn gone(&mut self, path: &str) {
        let want = Announcement::Gone(path.to_owned());
        while self.next_for(format!("{path} to be unannounced")).await != want {}
    }

    /// All announcements so far.
    pub fn seen(&self) -> &[Announcement] {
        &self.seen
    }

    async fn next_for(&mut self, what: impl std::fmt::Display + Send) -> Announcement {
        let what = format!("{what} at {} (seen: {:?})", self.peer, self.seen);
        let next = within(&what, self.incoming.recv()).await;
        let next = next.unwrap_or_else(|| panic!("the origin closed, waiting for {what}"));
        self.seen.push(next.clone());
        next
    }
}

/// The same peers on WebTransport.
pub mod web {
    pub mod lite016 {
        pub type Peer = crate::peers::lite016::PeerOn<true>;
    }
    pub mod net03 {
        pub type Peer = crate::peers::net03::PeerOn<true>;
    }
    pub mod smoq_blocking {
        pub type Peer = crate::peers::smoq_blocking::PeerOn<true>;
    }
    pub mod smoq_quinn {
        pub type Peer = crate::peers::smoq_quinn::PeerOn<true>;
    }
}

/// What TLS agrees on: HTTP/3 on WebTransport, otherwise one of the versions.
fn carrier<'a>(is_web: bool, versions: &'a [&'a str]) -> &'a [&'a str] {
    if is_web { &["h3"] } else { versions }
}

/// Panics unless every version is one of the peer's.
fn known<P: Peer>(versions: &[&str]) {
    assert!(!versions.is_empty(), "no version given");
    for version in versions {
        assert!(P::VERSIONS.contains(version), "{} does not speak {version} here", P::NAME);
    }
}
