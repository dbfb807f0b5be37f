//! Everything that a peer or an application could let grow has a limit here.

use core::time::Duration;

use crate::error::Error;
use crate::path::Path;

/// Bounds on memory, work and time. Each is enforced with a typed error for exactly the stream,
/// subscription or session that went past it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of payload in one frame. Past it: [`FrameTooLarge`](crate::Error::FrameTooLarge) for its
    /// group. Default 32 MiB, as the deployed peers.
    pub frame_bytes: u64,
    /// Frames in one group. Past it: [`GroupTooLarge`](crate::Error::GroupTooLarge). Default 8,192.
    pub group_frames: u64,
    /// Payload bytes in one group. Past it: [`GroupTooLarge`](crate::Error::GroupTooLarge).
    /// Default 32 MiB.
    pub group_bytes: u64,
    /// Groups that one track keeps; the oldest goes first. Default 1,024.
    pub track_groups: usize,
    /// Bytes that one track keeps, the newest group apart; the oldest group goes first.
    /// Default 64 MiB.
    pub track_bytes: u64,
    /// Bytes that all tracks of an origin keep together. Past it the track that writes gives up its own
    /// oldest groups; the newest of each live track stays, and is counted. Default 512 MiB.
    pub cache_bytes: u64,
    /// Body of one control message. Past it the stream is reset; in set-up and on moq-transport the
    /// session closes. Default 64 KiB.
    pub message_bytes: usize,
    /// Segments of a path. Past it the message is malformed; an announcement is not kept. Default 32.
    pub path_segments: usize,
    /// Bytes of a path, a prefix or a track name, on the wire and from an application. Past it:
    /// [`Limit`](crate::Error::Limit) for what has that name; an announcement of the peer is not kept. The root
    /// of a handle does not count. Default 4,096, which is what moq-transport allows.
    pub path_bytes: usize,
    /// Broadcasts that the peer may have announced at once under one prefix that we asked for. Past it
    /// further ones are not kept. Default 16,384.
    pub announcements: usize,
    /// Requests of the peer to hear of broadcasts that are open at once; each remembers what it was
    /// told. Past it the new one is refused, on moq-lite by an answer without broadcasts. Default 64.
    pub announce_requests: usize,
    /// Broadcasts that the peer may have been told of at once, on all its requests for announcements. Past it
    /// it is told of no others; when an eighth is free again, it is. Default 131,072.
    pub told_announcements: usize,
    /// Subscriptions in each direction. Past it: [`Limit`](crate::Error::Limit) for the new one.
    /// Default 4,096.
    pub subscriptions: usize,
    /// Requests of the peer that are open at once, of all kinds. Past it the new one is reset.
    /// Default 8,192.
    pub requests: usize,
    /// Broadcasts of an origin that one session, or the application, asked for by name and that nobody
    /// answered for yet; also those that it asked for at one peer whose session has not taken them yet. Past
    /// it the new one is refused with [`Limit`](crate::Error::Limit); others do not notice. Default 1,024.
    pub broadcast_requests: usize,
    /// Broadcasts of an origin that one session asked for by name, that were answered, and that are still
    /// there under that name. Past it the new one is refused with [`Limit`](crate::Error::Limit).
    /// Default 16,384.
    pub broadcast_answers: usize,
    /// How long a request may wait for its answer: for a broadcast, a track or a group, here or from the
    /// peer. Then all who wait for it get [`Timeout`](crate::Error::Timeout), and it is withdrawn.
    /// Default 10 s.
    pub answer_time: Duration,
    /// Group streams of the peer that are open at once. Past it the new one is stopped.
    /// Default 4,096.
    pub group_streams: usize,
    /// Group streams of tracks that are not known yet (TRACK_INFO), held without reading on.
    /// Past it the oldest is stopped. Default 64.
    pub unbound_streams: usize,
    /// How long a group stream may wait for what its track is. Default 5 s.
    pub unbound_time: Duration,
    /// Datagrams of the peer that wait to be looked at, and bytes of them, in units of the 1,200 that one may
    /// have. Past it the oldest is lost. Default 1,024.
    pub datagrams: usize,
    /// Groups that wait to be sent on one subscription; the least wanted is skipped. Default 256.
    pub pending_groups: usize,
    /// Bytes of one stream that wait to be decoded, or a whole message if that is more; then QUIC's
    /// flow control holds the rest. Default 64 KiB.
    pub stream_buffer: usize,
    /// Bytes owed on one request; then announcements wait in the origin, coalesced. On moq-transport a
    /// peer that goes on asking at 64 times as much, and reads no answer, ends the session. Default 64 KiB.
    pub owed_bytes: usize,
    /// Hops of an announcement; a longer chain is ignored. Default 32; longer ones are malformed.
    pub hops: usize,
    /// How long the peer's SETUP may take (versions that have one), and the decision on it, if there is one
    /// to make ([`Event::SetUp`](crate::machine::Event::SetUp)). Past it the session closes with
    /// [`Timeout`](crate::Error::Timeout). Default 10 s.
    pub handshake_time: Duration,
    /// How long a graceful close may flush what is owed. Default 1 s.
    pub close_time: Duration,
    /// How long a peer that was told GOAWAY may go on with what it asked for, unless the caller says.
    /// Past it the session closes with [`GoawayTimeout`](crate::Error::GoawayTimeout). Default 10 s.
    pub goaway_time: Duration,
    /// How long group streams are still accepted after the end of their subscription is known.
    /// Default 1 s.
    pub straggler_time: Duration,
    /// How long a track of the peer is read on after its last reader went: who comes back by then, or wants
    /// the same, has it at once. Then it is cancelled. Half of [`subscriptions`](Self::subscriptions) may be
    /// read on so at once. Default 0 s, because what nobody reads takes
    /// bandwidth from what somebody does; a relay, whose readers change channels, wants some seconds.
    pub linger_time: Duration,
    /// How long groups are kept, by media time against the newest frame and by wall clock, of a track
    /// that does not say it: one that nobody accepted yet, or of a peer whose version has no TRACK_INFO.
    /// The newest group of a live track stays. Default 5 s.
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
            told_announcements: 131_072,
            subscriptions: 4_096,
            requests: 8_192,
            broadcast_requests: 1_024,
            broadcast_answers: 16_384,
            answer_time: Duration::from_secs(10),
            group_streams: 4_096,
            unbound_streams: 64,
            unbound_time: Duration::from_secs(5),
            datagrams: 1_024,
            pending_groups: 256,
            stream_buffer: 64 << 10,
            owed_bytes: 64 << 10,
            hops: 32,
            handshake_time: Duration::from_secs(10),
            close_time: Duration::from_secs(1),
            goaway_time: Duration::from_secs(10),
            straggler_time: Duration::from_secs(1),
            linger_time: Duration::ZERO,
            max_age: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// Whether a path, or a prefix, is short enough.
    ///
    /// Errors: [`Error::Limit`] past [`path_bytes`](Self::path_bytes).
    pub(crate) fn check_path(&self, path: &Path) -> Result<(), Error> {
        match path.as_str().len() <= self.path_bytes {
            true => Ok(()),
            false => Err(Error::Limit("bytes of a path")),
        }
    }

    /// Whether the name of a track is short enough.
    ///
    /// Errors: as for [`check_path`](Self::check_path).
    pub(crate) fn check_track(&self, name: &str) -> Result<(), Error> {
        match name.len() <= self.path_bytes {
            true => Ok(()),
            false => Err(Error::Limit("bytes of a track name")),
        }
    }

    /// Whether the names of a broadcast and of a track in it are short enough.
    ///
    /// Errors: as for [`check_path`](Self::check_path).
    pub(crate) fn check_names(&self, broadcast: &Path, track: &str) -> Result<(), Error> {
        self.check_path(broadcast)?;
        self.check_track(track)
    }

    /// Whether the path of a URL is short enough, whatever query follows.
    ///
    /// Errors: as for [`check_path`](Self::check_path).
    pub(crate) fn check_url(&self, url: Option<&str>) -> Result<(), Error> {
        let path = url.and_then(|url| url.split('?').next()).unwrap_or_default();
        match path.trim_matches('/').len() <= self.path_bytes {
            true => Ok(()),
            false => Err(Error::Limit("bytes of a path")),
        }
    }
}
