//! The Subscribe stream: a subscription, its updates, and the publisher's answers.

use alloc::boxed::Box;
use core::time::Duration;

use bytes::BytesMut;

use super::features::{Features, OkForm};
use crate::coding::cursor::Cursor;
use crate::coding::cursor::decodable;
use crate::coding::writer::{Writer, encodable};
use crate::coding_error::{DecodeError, EncodeError};
use crate::path::Path;
use crate::subscription::Subscription;
use crate::version::Version;

/// SUBSCRIBE: the first message on the stream.
///
/// Up to 02 only the priority of `want` is written. The rest is decoded as a request for the latest group,
/// whatever its age. From 06 on a `want.start` of `None` and of `Some(0)` are both written as 0, which sets
/// no minimum and is decoded as `None`; `want.ordered` is not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The number of the subscription in GROUP messages. Each subscriber counts from 0 and never reuses
    /// one.
    pub id: u64,
    /// The whole path.
    pub broadcast: Path,
    /// Name of the track.
    pub track: Box<str>,
    /// The requested groups and their priority.
    pub want: Subscription,
    /// The first frame of group `want.start`. Must be 0 before 06.
    pub frame_start: u64,
    /// The last frame of group `want.end`, inclusive; it requires a `want.end`. Must be `None` before 06.
    pub frame_end: Option<u64>,
}

impl Subscribe {
    /// Reads the body of a message.
    pub fn decode_body(
        body: &[u8],
        version: Version,
        max_segments: usize,
    ) -> Result<Self, DecodeError> {
        Features::of(version).read(body, |cursor| {
            let id = cursor.varint()?;
            let broadcast = cursor.path(max_segments)?;
            let track = cursor.string()?.into();
            let SubscribeUpdate { want, frame_start, frame_end } =
                SubscribeUpdate::decode(cursor, version)?;
            Ok(Self { id, broadcast, track, want, frame_start, frame_end })
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        Features::of(version).write(out, None, |writer| {
            writer.varint(self.id)?;
            writer.path(&self.broadcast)?;
            writer.string(&self.track)?;
            encode_want(writer, version, &self.want, self.frame_start, self.frame_end)
        })
    }
}

/// SUBSCRIBE_UPDATE (03+): replaces the last fields of [`Subscribe`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeUpdate {
    /// The requested groups and their priority from now on.
    pub want: Subscription,
    /// As [`Subscribe::frame_start`].
    pub frame_start: u64,
    /// As [`Subscribe::frame_end`].
    pub frame_end: Option<u64>,
}

impl SubscribeUpdate {
    /// Reads the body of a message.
    pub fn decode_body(body: &[u8], version: Version) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        decodable(features.group_bounds)?;
        features.read(body, |cursor| Self::decode(cursor, version))
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        encodable(features.group_bounds)?;
        features.write(out, None, |writer| {
            encode_want(writer, version, &self.want, self.frame_start, self.frame_end)
        })
    }

    fn decode(cursor: &mut Cursor<'_>, version: Version) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        let priority = cursor.u8()?;
        if !features.group_bounds {
            let want = Subscription { priority, max_age: Duration::MAX, ..Subscription::default() };
            return Ok(Self { want, frame_start: 0, frame_end: None });
        }
        let ordered = if features.ordered { cursor.u8()? != 0 } else { false };
        let max_age = cursor.millis()?;
        let start = if features.frame_bounds {
            Some(cursor.varint()?).filter(|&floor| floor > 0)
        } else {
            cursor.option()?
        };
        let end = cursor.option()?;
        let want =
            Subscription { priority, ordered, max_age, start, end, ..Subscription::default() };
        if !features.frame_bounds {
            return Ok(Self { want, frame_start: 0, frame_end: None });
        }
        let frame_start = cursor.varint()?;
        let frame_end = cursor.option()?;
        if frame_end.is_some() && end.is_none() {
            return Err(DecodeError::InvalidValue("frame end without a group end"));
        }
        Ok(Self { want, frame_start, frame_end })
    }
}

fn encode_want(
    writer: &mut Writer<'_>,
    version: Version,
    want: &Subscription,
    frame_start: u64,
    frame_end: Option<u64>,
) -> Result<(), EncodeError> {
    let features = Features::of(version);
    writer.u8(want.priority);
    if !features.group_bounds {
        return encodable(frame_start == 0 && frame_end.is_none());
    }
    if features.ordered {
        writer.u8(want.ordered.into());
    }
    writer.millis(want.max_age)?;
    if !features.frame_bounds {
        encodable(frame_start == 0 && frame_end.is_none())?;
        writer.option(want.start)?;
        return Ok(writer.option(want.end)?);
    }
    if frame_end.is_some() && want.end.is_none() {
        return Err(EncodeError::InvalidValue("frame end without a group end"));
    }
    writer.varint(want.start.unwrap_or(0))?;
    writer.option(want.end)?;
    writer.varint(frame_start)?;
    Ok(writer.option(frame_end)?)
}

/// An answer of the publisher. From 03 on it has a type, see [`Features::typed_responses`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscribeResponse {
    /// SUBSCRIBE_OK, up to 04: always the first answer. 01 carries only the priority and 02 nothing. Absent
    /// fields are decoded as deployed peers would send them, and the priority on 02 as 0.
    Ok {
        /// Deployed peers repeat the priority of the subscriber.
        priority: u8,
        /// Deployed peers send `false`.
        ordered: bool,
        /// Deployed peers send 0.
        max_age: Duration,
        /// The first group, `None` if unknown.
        start: Option<u64>,
        /// The last group, inclusive, `None` if unknown.
        end: Option<u64>,
    },
    /// START (also SUBSCRIBE_OK), 05+: sent at most once.
    Start {
        /// The first group. No earlier one follows.
        group: u64,
    },
    /// SUBSCRIBE_END, 05+: the subscription is complete.
    End {
        /// The number after the last group. On 05 some peers send the number of the last group itself.
        group: u64,
        /// The number of Group streams. Required on 07, and not written in other versions.
        streams: Option<u64>,
    },
    /// SUBSCRIBE_DROP, 03 to 06: groups that will not be delivered. Deployed peers never send it.
    Drop {
        /// The first of them.
        start: u64,
        /// The last of them, inclusive.
        end: u64,
        /// The reason as a stream error code.
        code: u64,
    },
}

impl SubscribeResponse {
    const OK: u64 = 0;
    const START: u64 = 0;
    const END: u64 = 1;

    const fn drop_kind(features: &Features) -> Option<u64> {
        match features {
            Features { stream_count: true, .. } => None,
            Features { subscribe_end: true, .. } => Some(2),
            Features { ok: OkForm::Typed, .. } => Some(1),
            _ => None,
        }
    }

    /// SUBSCRIBE_OK of a version that carries no more than the priority.
    const fn bare_ok(priority: u8) -> Self {
        let (start, end) = (None, None);
        Self::Ok { priority, ordered: false, max_age: Duration::ZERO, start, end }
    }

    /// Reads the body of a message with the type from [`Framed::kind`](super::Framed::kind).
    pub fn decode_body(
        kind: Option<u64>,
        body: &[u8],
        version: Version,
    ) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        match features.ok {
            OkForm::Priority => return features.read(body, |it| it.u8().map(Self::bare_ok)),
            OkForm::Empty => return features.read(body, |_| Ok(Self::bare_ok(0))),
            OkForm::Typed => {}
        }
        let kind = kind.ok_or(DecodeError::Truncated)?;
        features.read(body, |cursor| match kind {
            Self::OK if !features.subscribe_end => Ok(Self::Ok {
                priority: cursor.u8()?,
                ordered: cursor.u8()? != 0,
                max_age: cursor.millis()?,
                start: cursor.option()?,
                end: cursor.option()?,
            }),
            Self::START if features.subscribe_end => Ok(Self::Start { group: cursor.varint()? }),
            Self::END if features.subscribe_end => {
                let group = cursor.varint()?;
                let streams = features.stream_count.then(|| cursor.varint()).transpose()?;
                Ok(Self::End { group, streams })
            }
            kind if Some(kind) == Self::drop_kind(features) => Ok(Self::Drop {
                start: cursor.varint()?,
                end: cursor.varint()?,
                code: cursor.varint()?,
            }),
            kind => Err(DecodeError::UnknownMessage(kind)),
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        match *self {
            Self::Ok { priority, ordered, max_age, start, end } => {
                encodable(!features.subscribe_end)?;
                let kind = features.typed_responses().then_some(Self::OK);
                features.write(out, kind, |writer| {
                    if features.ok == OkForm::Empty {
                        return Ok(());
                    }
                    writer.u8(priority);
                    if features.ok == OkForm::Priority {
                        return Ok(());
                    }
                    writer.u8(ordered.into());
                    writer.millis(max_age)?;
                    writer.option(start)?;
                    Ok(writer.option(end)?)
                })
            }
            Self::Start { group } => {
                encodable(features.subscribe_end)?;
                features.write(out, Some(Self::START), |writer| Ok(writer.varint(group)?))
            }
            Self::End { group, streams } => {
                encodable(features.subscribe_end)?;
                let missing = EncodeError::InvalidValue("no stream count");
                features.write(out, Some(Self::END), |writer| {
                    writer.varint(group)?;
                    if features.stream_count {
                        writer.varint(streams.ok_or(missing)?)?;
                    }
                    Ok(())
                })
            }
            Self::Drop { start, end, code } => {
                let kind = Self::drop_kind(features).ok_or(EncodeError::NotInVersion)?;
                features.write(out, Some(kind), |writer| {
                    writer.varint(start)?;
                    writer.varint(end)?;
                    Ok(writer.varint(code)?)
                })
            }
        }
    }
}
