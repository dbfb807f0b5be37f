//! Limits on everything that a peer or an application can make grow.

use core::time::Duration;

use crate::error::{Error, LimitKind};
use crate::path::Path;

/// Limits on memory, work and time.
///
/// Exceeding one causes a typed error for exactly the stream, subscription or session that exceeded it.
/// Sizes are in bytes, counts in items. Amounts of payload are `u64`, as frames and groups count them on the wire;
/// everything else counts what is in memory and is `usize`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of payload in one frame. A larger frame ends its group with
    /// [`FrameTooLarge`](crate::Error::FrameTooLarge). Default 32 MiB, as in deployed peers.
    pub frame_bytes: u64,
    /// Frames in one group. A longer group ends with [`GroupTooLarge`](crate::Error::GroupTooLarge).
    /// Default 8,192.
    pub group_frames: u64,
    /// Bytes of payload in one group. A larger group ends with
    /// [`GroupTooLarge`](crate::Error::GroupTooLarge). Default 32 MiB.
    pub group_bytes: u64,
    /// Groups that a track keeps in its cache, other subgroups than 0, and other objects in datagrams than the first of a
    /// group (moq-transport). Beyond it the oldest group is evicted, its other subgroups and objects first. Default 1,024.
    pub track_groups: usize,
    /// Bytes that a track keeps in its cache, not counting the newest group. Beyond it the oldest group is
    /// evicted. Default 64 MiB.
    pub track_bytes: u64,
    /// Bytes that all tracks of an origin keep together. Beyond it the track that writes evicts its own
    /// oldest groups. The newest group of each live track stays, and is counted. Default 512 MiB.
    pub cache_bytes: u64,
    /// Bytes in the body of one control message. A longer message resets its stream. During the handshake,
    /// and on moq-transport, it closes the session. Default 64 KiB.
    pub message_bytes: usize,
    /// Segments of a path. A message with a longer path is malformed, and an announcement of such a path is
    /// ignored. Default 32.
    pub path_segments: usize,
    /// Bytes of a path, a prefix or a track name, from the peer and from the application. A request with a
    /// longer name fails with [`Limit`](crate::Error::Limit), and an announcement of such a path is
    /// ignored. The root of a scoped handle does not count. Default 4,096, the maximum of moq-transport.
    pub path_bytes: usize,
    /// Broadcasts that the peer has announced at the same time under one prefix that this side requested.
    /// Further announcements are ignored. Default 16,384.
    pub announcements: usize,
    /// Announce requests of the peer that are open at the same time. Each of them records what was
    /// announced on it. Beyond it a new one is refused; on moq-lite the refusal is an answer without
    /// broadcasts. Requests of this side for tracks ([`TracksRequest`](crate::TracksRequest)) have the same
    /// limit; a new one fails with [`Limit`](crate::Error::Limit). Default 64.
    pub announce_requests: usize,
    /// Broadcasts that are announced to the peer at the same time, over all of its announce requests.
    /// Beyond it no others are announced until an eighth of the limit is free again. Default 131,072.
    pub sent_announcements: usize,
    /// Subscriptions that are open at the same time, in each direction. A new one fails with
    /// [`Limit`](crate::Error::Limit). Default 4,096.
    pub subscriptions: usize,
    /// Requests of the peer, of all kinds, that are open at the same time. A new one is reset. Requests that
    /// the application has not [decided](crate::PeerRequest) on have the same limit, even if the peer gave
    /// them up; a new one is refused. Default 8,192.
    pub requests: usize,
    /// Broadcasts that one session, or the application, has requested by name from an origin and that are
    /// not answered yet. Requests to a specific peer count as well until its session has taken them. A new
    /// request fails with [`Limit`](crate::Error::Limit); other sessions are unaffected. Default 1,024.
    pub broadcast_requests: usize,
    /// Broadcasts that one session requested by name from an origin, that were answered, and that still
    /// exist under that name. A new request fails with [`Limit`](crate::Error::Limit). Default 16,384.
    pub broadcast_answers: usize,
    /// How long a request for a broadcast, a track or a group may wait for its answer, from this side or
    /// from the peer. After that everyone who waits for it gets [`Timeout`](crate::Error::Timeout), and the
    /// request is withdrawn. Default 10 s.
    pub answer_timeout: Duration,
    /// Group streams of the peer that are open at the same time. A new one is stopped. Default 4,096.
    pub group_streams: usize,
    /// Group streams of the peer that wait for the TRACK_INFO of their track, or for a subscription with their track
    /// alias. They are not read any further until it arrives. Beyond it the oldest one is stopped. Default 64.
    pub unbound_streams: usize,
    /// How long a group stream may wait for the TRACK_INFO of its track, or for a subscription with its track alias,
    /// or for the frames before its first one, which FETCH brings. After that it is stopped. Default 5 s.
    pub unbound_timeout: Duration,
    /// Datagrams of the peer that wait to be decoded. Their total size is limited as well, to this many
    /// times 1,200 bytes. Beyond it the oldest ones are dropped. Default 1,024.
    pub datagrams: usize,
    /// Groups that wait to be sent on one subscription. Beyond it the one with the lowest priority is
    /// skipped. Default 256.
    pub pending_groups: usize,
    /// Bytes of one stream that wait to be decoded, or one whole message if that is longer. Beyond it
    /// QUIC's flow control holds the peer. Default 64 KiB.
    pub stream_buffer: usize,
    /// Bytes that wait to be sent on one request. Beyond it announcements wait in the origin, where they
    /// are coalesced. On moq-transport the session ends at 64 times this limit, when a peer keeps sending
    /// requests without reading the answers. Default 64 KiB.
    pub request_buffer: usize,
    /// Hops of an announcement. A longer chain is ignored. Default 32, the protocol's maximum: chains
    /// beyond that are malformed.
    pub hops: usize,
    /// Bytes of the authorization tokens that a peer of moq-transport may register for later requests, 16 more for
    /// each. Beyond it the session closes; one in SETUP is used, and not kept. Default 4,096.
    pub token_bytes: u64,
    /// How long the peer's SETUP, in versions that have one, and the application's decision on it, if there is one to
    /// make ([`Event::SetUp`](crate::machine::Event::SetUp)), may take together. After that the session closes with
    /// [`Timeout`](crate::Error::Timeout). Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a graceful close may take to flush what waits to be sent. After that the session closes
    /// without it. A peer of moq-transport that ended its control stream has the same time to end the session.
    /// Default 1 s.
    pub close_timeout: Duration,
    /// How long a peer that received GOAWAY may continue its requests, unless the caller passes another
    /// time. After that the session closes with [`GoawayTimeout`](crate::Error::GoawayTimeout). Default 10
    /// s.
    pub goaway_timeout: Duration,
    /// How long group streams are still accepted once the end of their subscription is known. Later ones
    /// are stopped. Default 1 s.
    pub straggler_timeout: Duration,
    /// How long a subscription to a track of the peer continues after the track lost its last reader. A
    /// reader that arrives in that time gets the track at once; after it the subscription is cancelled. At
    /// most half of [`subscriptions`](Self::subscriptions) continue without a reader at the same time.
    /// Default 0 s, because an unread track takes bandwidth from the others. A relay whose readers switch
    /// channels sets a few seconds.
    pub linger_time: Duration,
    /// How long the groups of a track are kept if nothing else says so: before the track is accepted, or
    /// when the peer's version has no TRACK_INFO. The age is measured in media time against the newest
    /// frame, and by the clock. The newest group of a live track stays. Default 5 s.
    pub max_age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 32 << 20,
            group_frames: 8_192,
            group_bytes: 32 << 20,
            track_groups: 1_024,
            track_bytes: 64 << 20,
            cache_bytes: 512 << 20,
            message_bytes: 64 << 10,
            path_segments: 32,
            path_bytes: 4_096,
            announcements: 16_384,
            announce_requests: 64,
            sent_announcements: 131_072,
            subscriptions: 4_096,
            requests: 8_192,
            broadcast_requests: 1_024,
            broadcast_answers: 16_384,
            answer_timeout: Duration::from_secs(10),
            group_streams: 4_096,
            unbound_streams: 64,
            unbound_timeout: Duration::from_secs(5),
            datagrams: 1_024,
            pending_groups: 256,
            stream_buffer: 64 << 10,
            request_buffer: 64 << 10,
            hops: 32,
            token_bytes: 4_096,
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(1),
            goaway_timeout: Duration::from_secs(10),
            straggler_timeout: Duration::from_secs(1),
            linger_time: Duration::ZERO,
            max_age: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// Checks the length of a path or a prefix.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] beyond [`path_bytes`](Self::path_bytes).
    pub(crate) fn check_path(&self, path: &Path) -> Result<(), Error> {
        match path.as_str().len() <= self.path_bytes {
            true => Ok(()),
            false => Err(Error::Limit(LimitKind::PathBytes)),
        }
    }

    /// Checks the length of a track name.
    ///
    /// # Errors
    ///
    /// As [`check_path`](Self::check_path).
    pub(crate) fn check_track(&self, name: &str) -> Result<(), Error> {
        match name.len() <= self.path_bytes {
            true => Ok(()),
            false => Err(Error::Limit(LimitKind::TrackNameBytes)),
        }
    }

    /// Checks the lengths of a broadcast's path and of a track name.
    ///
    /// # Errors
    ///
    /// As [`check_path`](Self::check_path).
    pub(crate) fn check_names(&self, broadcast: &Path, track: &str) -> Result<(), Error> {
        self.check_path(broadcast)?;
        self.check_track(track)
    }

    /// Checks the length of the path of a URL, not counting its query.
    ///
    /// # Errors
    ///
    /// As [`check_path`](Self::check_path).
    pub(crate) fn check_url(&self, url: Option<&str>) -> Result<(), Error> {
        let path = url.and_then(|url| url.split('?').next()).unwrap_or_default();
        match path.trim_matches('/').len() <= self.path_bytes {
            true => Ok(()),
            false => Err(Error::Limit(LimitKind::PathBytes)),
        }
    }
}
