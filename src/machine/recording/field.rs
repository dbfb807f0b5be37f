//! The encoding of values in a trace: numbers as LEB128; texts and bytes after their length; a
//! variant of an enum after its number. One table a type serves both writing and reading.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use crate::auth_token::AuthToken;
use crate::coding::DecodeError;
use crate::error::{Error, LimitKind};
use crate::hop::{Cost, Hop, Hops};
use crate::limits::Limits;
use crate::machine::chunks::Chunks;
use crate::machine::command::Command;
use crate::machine::config::Config;
use crate::machine::event::{
    Event, FetchRange, FramePosition, GroupKey, ObjectRun, RangeTarget, RequestKey, Subgroup,
};
use crate::machine::io::{Action, Input};
use crate::machine::network_path::{NetworkPath, PathEstimate};
use crate::machine::source::{Announcement, Supply, Token};
use crate::path::Path;
use crate::peer::{Peer, Role};
use crate::properties::{PairForm, Properties};
use crate::slab::Key;
use crate::stream::{Code, Dir, Side, StreamId};
use crate::subscription::{Subscription, TrackInfo};
use crate::time::{Instant, Timescale, Timestamp};
use crate::version::{Agreed, Version, Versions};

/// Why a record can't be read.
pub(crate) type Bad = &'static str;

/// The rest of a record.
pub(crate) struct Rest<'a>(pub(crate) &'a [u8]);

impl<'a> Rest<'a> {
    pub(crate) fn bytes(&mut self, len: u64) -> Result<&'a [u8], Bad> {
        let len =
            usize::try_from(len).ok().filter(|len| *len <= self.0.len()).ok_or("too short")?;
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Bad> {
        Ok(self.bytes(1)?[0])
    }

    pub(crate) fn number(&mut self) -> Result<u64, Bad> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number of more than 64 bits")
    }

    /// Everything that is left.
    pub(crate) fn end(&self) -> Result<(), Bad> {
        if self.0.is_empty() { Ok(()) } else { Err("too long") }
    }
}

/// A value of a trace.
pub(crate) trait Field {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut Rest<'_>) -> Result<Self, Bad>
    where
        Self: Sized;
}

pub(crate) fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_number(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

impl Field for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(*self, out);
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        from.number()
    }
}

impl Field for [u8; 8] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        from.bytes(8)?.try_into().map_err(|_| "too short")
    }
}

impl Field for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        let len = from.number()?;
        from.bytes(len).map(Self::copy_from_slice)
    }
}

impl Field for Chunks {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_bytes().put(out);
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        Bytes::take(from).map(Self::from)
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        Ok((Field::take(from)?, Field::take(from)?))
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        bool::take(from)?.then(|| T::take(from)).transpose()
    }
}

impl<T: Field> Field for Result<T, Error> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_ok().put(out);
        match self {
            Ok(value) => value.put(out),
            Err(error) => error.put(out),
        }
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        Ok(if bool::take(from)? { Ok(T::take(from)?) } else { Err(Error::take(from)?) })
    }
}

impl Field for () {
    fn put(&self, _: &mut Vec<u8>) {}

    fn take(_: &mut Rest<'_>) -> Result<Self, Bad> {
        Ok(())
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(self.len() as u64, out);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
        let len = from.number()?;
        (0..len).map(|_| T::take(from)).collect()
    }
}

/// Types that are encoded as another type: how to convert them, and how to convert back, which may
/// fail.
macro_rules! converted {
    ($($name:ty as $other:ty: $to:expr, $of:expr;)*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let to: fn(&Self) -> $other = $to;
                to(self).put(out);
            }

            fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
                let of: fn($other) -> Option<Self> = $of;
                of(Field::take(from)?).ok_or(concat!("not a ", stringify!($name)))
            }
        }
    )*};
}

converted! {
    u8 as u64: |n| u64::from(*n), |n| Self::try_from(n).ok();
    u32 as u64: |n| u64::from(*n), |n| Self::try_from(n).ok();
    usize as u64: |n| *n as u64, |n| Self::try_from(n).ok();
    bool as u64: |it| u64::from(*it), |n| (n < 2).then_some(n == 1);
    i32 as u64: |n| u64::from(*n as u32), |n| u32::try_from(n).ok().map(|n| n as Self);
    Instant as u64: |it| it.as_micros(), |n| Some(Self::from_micros(n));
    Timestamp as u64: |it| it.units(), |n| Some(Self::new(n));
    Timescale as u64: |it| it.units(), Self::new;
    Hop as u64: |hop| hop.as_u64(), |n| Some(Self::new(n));
    StreamId as u64: |id| id.as_u64(), |n| Some(Self::from_u64(n));
    Code as u64: |code| code.as_u64(), |n| Some(Self::new(n));
    Dir as u64: |dir| *dir as u64, |n| [Self::Bi, Self::Uni].get(n as usize).copied();
    Role as u64: |role| role.as_u64(), |n| Some(Self::from_u64(n));
    Side as u64: |side| *side as u64, |n| [Self::Client, Self::Server].get(n as usize).copied();
    Duration as (u64, u32): |it| (it.as_secs(), it.subsec_nanos()),
        |(secs, nanos)| (nanos < 1_000_000_000).then(|| Self::new(secs, nanos));
    RequestKey as Key: |key| (*key).into(), |key| Some(Self::of(key));
    GroupKey as Key: |key| (*key).into(), |key| Some(Self::of(key));
    Box<str> as Bytes: |text| Bytes::copy_from_slice(text.as_bytes()),
        |bytes| core::str::from_utf8(&bytes).ok().map(Into::into);
    // The texts of errors. Those of a trace are leaked, so that they live as long as the process that
    // replays it.
    &'static str as Box<str>: |text| (*text).into(),
        |text| Some(if text.is_empty() { "" } else { Box::leak(text) });
    Path as Box<str>: |path| path.as_str().into(), |text| Some(Self::new(&text));
    Version as Box<str>: |version| version.name().into(), |text| text.parse().ok();
    Agreed as Vec<Version>: |agreed| agreed.iter().collect(), |versions| {
        let versions: Versions = versions.into_iter().collect();
        let alpns: Vec<_> = versions.alpns().map(str::as_bytes).collect();
        versions.agreed(if let [alpn] = alpns[..] { Some(alpn) } else { None })
    };
    PairForm as u64: |form| *form as u64, |n| {
        [Self::Absolute, Self::Delta, Self::Delta17, Self::Delta18].get(n as usize).copied()
    };
    Hops as Vec<Hop>: |hops| hops.as_slice().to_vec(), |hops| Some(hops.into_iter().collect());
}

macro_rules! structs {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.put(out);)*
            }

            fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
                $(let $field = Field::take(from)?;)*
                Ok(Self { $($field),* })
            }
        }
    )*};
}

pub(crate) use structs;

structs! {
    AuthToken { kind, value }
    Config {
        side, agreed, hop, path, interests, limits, authority, role, cost, requires_accept, tokens,
        subgroups,
    }
    Cost { warm, cold }
    FetchRange { start, groups_back, end, descending, fill_timeout }
    FramePosition { group, frame }
    Limits {
        frame_bytes, group_frames, group_bytes, track_groups, track_bytes, cache_bytes, message_bytes,
        path_segments, announcements, announce_requests, subscriptions, requests, group_streams,
        unbound_streams, unbound_timeout, datagrams, pending_groups, stream_buffer, request_buffer, hops, handshake_timeout,
        close_timeout, straggler_timeout, max_age, goaway_timeout, broadcast_requests, linger_time,
        broadcast_answers, answer_timeout, path_bytes, sent_announcements, token_bytes,
    }
    PathEstimate { bitrate, rtt }
    Peer { path, authority, role, hop, cost, tokens }
    NetworkPath { rtt, bitrate, max_datagram }
    ObjectRun { sequence, subgroup, priority, object, first_frame, last_frame }
    Subscription { priority, ordered, max_age, start, end, new_group }
    Token { slot, generation }
    Properties { pairs, form, status, gap }
    Subgroup { number, first_frame, priority, is_from_start, ends_group }
    TrackInfo { priority, max_age, timescale, properties, dynamic_groups }
}

/// The numbers of variants are part of the format: new variants are added at the end, and no number
/// is used twice.
macro_rules! enums {
    ($($name:ident {
        $($number:literal $variant:ident $({ $($field:ident),* })? $(($inner:ident))?,)*
    })*) => {$(
        impl Field for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $({ $($field),* })? $(($inner))? => {
                        put_number($number, out);
                        $($($field.put(out);)*)?
                        $($inner.put(out);)?
                    })*
                }
            }

            fn take(from: &mut Rest<'_>) -> Result<Self, Bad> {
                match from.number()? {
                    $($number => {
                        $($(let $field = Field::take(from)?;)*)?
                        $(let $inner = Field::take(from)?;)?
                        Ok(Self::$variant $({ $($field),* })? $(($inner))?)
                    })*
                    _ => Err(concat!("an unknown ", stringify!($name))),
                }
            }
        }
    )*};
}

enums! {
    Input {
        0 Available { dir },
        1 Closed { error },
        2 Data { id, bytes, fin },
        3 Opened { id },
        4 Reset { id, code },
        5 Stopped { id, code },
        6 Writable { id },
        7 NetworkPath(path),
        8 Datagram { bytes },
        9 DatagramsAvailable,
        11 Time,
    }
    Action {
        0 Close { code, reason },
        1 Reset { id, code },
        2 Resume { id },
        3 SetPriority { id, priority },
        4 Stop { id, code },
    }
    Event {
        0 Announced { path, hops, cost },
        1 AnnounceRequested { request, prefix, exclude, hidden, tokens },
        2 Closed { error },
        3 Frame { group, timestamp, properties, size, payload },
        4 GoingAway { uri, timeout },
        5 Group { subscription, group, sequence, first_frame },
        6 GroupEnded { group, result },
        7 GroupRefused { subscription, sequence },
        8 GroupReleased { group, sent },
        9 Payload { group, bytes },
        10 RequestEnded { request, result },
        11 SubscribeEnded { subscription, result },
        12 TrackOffered { request, broadcast, track, tokens },
        13 SubscribeStarted { subscription, group },
        14 SubscribeRequested { request, broadcast, track, subscription, wait, tokens },
        15 SubscribeUpdated { request, subscription },
        16 TrackInfo { subscription, info },
        17 TrackRequested { request, broadcast, track, tokens },
        18 Unannounced { path },
        19 Datagram { subscription, sequence, subgroup, timestamp, properties, payload },
        20 FetchEnded { fetch, result },
        21 FetchRequested {
            request, broadcast, track, priority, sequence, first_frame, last_frame, tokens
        },
        22 FetchStarted { fetch, group },
        23 Estimate { estimate },
        24 ProbeEnded { error },
        25 SetUp { peer },
        26 RangeRequested { request, target, priority, range, tokens },
        28 LargestFrame { subscription, largest },
        29 BroadcastOffered { request, broadcast, tokens },
        30 Subgroup { subscription, group, sequence, subgroup },
        31 TracksRequested { request, prefix, names, tokens },
        32 TracksEnded { tracks, error },
    }
    Command {
        0 AcceptAnnounce { request, reader, active },
        1 AcceptOffer { request },
        2 AcceptSubscribe { request, info, largest },
        3 AcceptTrack { request, info, largest },
        4 AnnouncementsReady { request },
        5 Close { error },
        6 Describe { subscription, broadcast, track },
        7 Drain,
        8 FinishSubscribe { request, end },
        9 Group { request, group, sequence, first_frame },
        10 GroupReady { request, sequence },
        11 Refuse { request, error },
        12 StartSubscribe { request, group },
        13 StopGroup { group, error },
        14 Subscribe { subscription, broadcast, track, want },
        15 Unsubscribe { subscription },
        16 UpdateSubscribe { subscription, want },
        17 AcceptFetch { request, group, info, frames, ends_track },
        18 CancelFetch { fetch },
        19 Datagram { request, group, sequence },
        20 Fetch { fetch, broadcast, track, priority, sequence, first_frame, last_frame },
        21 Probe,
        22 Unprobe,
        23 Accept { hop, interests },
        24 GoAway { uri, timeout },
        25 AcceptRange { request, info, end, ends_track },
        26 RangeGroup { request, group, run, gap },
        27 EndRange { request, gap },
        28 SetTokens { prefix, tokens },
        29 Subgroup { request, group, sequence, subgroup },
        30 SubgroupReady { request, sequence, number },
        31 SubscribeTracks { tracks, prefix },
        32 UnsubscribeTracks { tracks },
    }
    RangeTarget {
        0 Track { broadcast, track },
        1 Subscription(request),
    }
    Announcement {
        0 Active { suffix, hops, cost },
        1 Ended { suffix },
        2 Track { suffix, track, info, largest },
    }
    Supply {
        0 End,
        1 Gone(error),
        2 More,
        3 Pending,
    }
    LimitKind {
        0 Announcements,
        1 AnnounceRequests,
        2 SentAnnouncements,
        3 UnreadAnswers,
        4 BroadcastAnswers,
        5 BroadcastRequests,
        6 UriBytes,
        7 PathBytes,
        8 TrackNameBytes,
        9 GroupStreams,
        10 UnboundStreams,
        11 Offers,
        12 ProbeStreams,
        13 Requests,
        14 PeerRequests,
        15 Subscriptions,
        16 LeavingSessions,
    }
    Error {
        0 App(code),
        1 Remote(code),
        2 Cancelled,
        3 Closed,
        4 Disconnected,
        5 Dropped,
        6 Duplicate,
        7 Evicted,
        8 FrameTooLarge,
        9 GoingAway,
        10 GroupTooLarge,
        11 Internal,
        12 Lagged,
        13 Limit(kind),
        14 Malformed(error),
        15 NotFound,
        16 Old,
        17 ProtocolViolation(rule),
        18 SessionClosed,
        19 Timeout,
        20 Unauthorized,
        21 Unroutable,
        22 Version,
        23 Unsupported,
        24 WrongSize,
        25 GoawayTimeout,
        26 Unrepresentable(what),
        27 Expired,
        28 UnknownAuthority,
        29 UnknownProperty,
    }
    DecodeError {
        0 Short,
        1 Truncated,
        2 TrailingBytes,
        3 InvalidString,
        4 InvalidValue(what),
        5 InvalidName,
        6 UnknownMessage(kind),
        7 UnknownParameter(kind),
        8 TooLong,
        9 TooMany,
        10 Duplicate,
        11 BoundsExceeded,
        12 NotInVersion,
    }
}
