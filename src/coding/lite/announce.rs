//! The Announce stream: a request for the broadcasts under a prefix, and its answers.

use bytes::BytesMut;

use super::{Features, HopsForm, decodable, encodable};
use crate::coding::writer::Writer;
use crate::coding::{Cursor, DecodeError, EncodeError};
use crate::hop::{Cost, Hop, Hops};
use crate::path::Path;
use crate::version::Version;

/// ANNOUNCE_REQUEST (also ANNOUNCE_PLEASE, INTEREST): which broadcasts to announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// Only paths under it.
    pub prefix: Path,
    /// Nothing that came through this hop; unknown excludes nothing. Only in 04 and 05, elsewhere it
    /// is not written.
    pub exclude: Hop,
}

impl AnnounceRequest {
    /// Reads the body of a message.
    pub fn decode_body(
        body: &[u8],
        version: Version,
        max_segments: usize,
    ) -> Result<Self, DecodeError> {
        Cursor::message(body, |cursor| {
            let prefix = cursor.path(max_segments)?;
            let exclude = if Features::of(version).exclude_hop {
                Hop::new(cursor.varint()?)
            } else {
                Hop::UNKNOWN
            };
            Ok(Self { prefix, exclude })
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        Writer::message(out, None, |writer| {
            writer.path(&self.prefix)?;
            if Features::of(version).exclude_hop {
                writer.varint(self.exclude.as_u64())?;
            }
            Ok(())
        })
    }
}

/// ANNOUNCE_OK (05+): the first answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnounceOk {
    /// Who announces; the receiver puts it behind the hops of every announcement.
    pub hop: Hop,
    /// How many announcements follow at once. The deployed peers send it right and do not rely on it.
    pub active: u64,
}

impl AnnounceOk {
    /// Reads the body of a message.
    pub fn decode_body(body: &[u8], version: Version) -> Result<Self, DecodeError> {
        decodable(Features::of(version).announce_ok)?;
        Cursor::message(body, |cursor| {
            Ok(Self { hop: Hop::new(cursor.varint()?), active: cursor.varint()? })
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        encodable(Features::of(version).announce_ok)?;
        Writer::message(out, None, |writer| {
            writer.varint(self.hop.as_u64())?;
            Ok(writer.varint(self.active)?)
        })
    }
}

/// One change of the set of broadcasts: ANNOUNCE up to 05, its typed successors from 06 on
/// ([`Features::announce_ids`]).
///
/// `hops` are as on the wire, see [`HopsForm`] for who is among them. A known hop that is there twice
/// is not refused here: [`Hops::has_loop`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announce {
    /// ANNOUNCE with status active (05: or restart), ANNOUNCE_START: the broadcast can be subscribed.
    /// From 06 on the first of a stream has id 0, the next 1 and so on.
    Active {
        /// Relative to the prefix that was asked for.
        suffix: Path,
        /// Who it came through.
        hops: Hops,
        /// What a path to it costs. Before 06 not written, and [`Cost::UNKNOWN`] on decoding.
        cost: Cost,
    },
    /// ANNOUNCE with status ended, up to 05.
    Ended {
        /// Relative to the prefix that was asked for.
        suffix: Path,
    },
    /// ANNOUNCE_END, 06.
    EndedId {
        /// Which.
        id: u64,
    },
    /// ANNOUNCE_UPDATE, 06: another way to the same broadcast.
    Update {
        /// Which.
        id: u64,
        /// Who it comes through now.
        hops: Hops,
        /// What a path to it costs now.
        cost: Cost,
    },
}

const ENDED: u8 = 0;
const ACTIVE: u8 = 1;
/// 05: sent by nobody, taken by the deployed peers as active.
const RESTART: u8 = 2;

const START: u64 = 0;
const END: u64 = 1;
const UPDATE: u64 = 2;

impl Announce {
    /// Reads the body of a message with the type that [`Framed::kind`](super::Framed::kind) says;
    /// `None` is a message of an unknown type, to be skipped (06).
    pub fn decode_body(
        kind: Option<u64>,
        body: &[u8],
        version: Version,
        max_segments: usize,
    ) -> Result<Option<Self>, DecodeError> {
        let features = Features::of(version);
        if !features.announce_ids {
            return Cursor::message(body, |cursor| {
                Self::decode_status(cursor, features, max_segments)
            })
            .map(Some);
        }
        let message = match kind {
            Some(START) => Cursor::message(body, |cursor| {
                let suffix = cursor.path(max_segments)?;
                let hops = decode_hops(cursor, features.hops)?;
                Ok(Self::Active { suffix, hops, cost: decode_cost(cursor)? })
            }),
            Some(END) => Cursor::message(body, |cursor| Ok(Self::EndedId { id: cursor.varint()? })),
            Some(UPDATE) => Cursor::message(body, |cursor| {
                let id = cursor.varint()?;
                let hops = decode_hops(cursor, features.hops)?;
                Ok(Self::Update { id, hops, cost: decode_cost(cursor)? })
            }),
            _ => return Ok(None),
        };
        message.map(Some)
    }

    fn decode_status(
        cursor: &mut Cursor<'_>,
        features: &Features,
        max_segments: usize,
    ) -> Result<Self, DecodeError> {
        let status = cursor.u8()?;
        let suffix = cursor.path(max_segments)?;
        let hops = decode_hops(cursor, features.hops)?;
        match status {
            ENDED => Ok(Self::Ended { suffix }),
            ACTIVE => Ok(Self::Active { suffix, hops, cost: Cost::UNKNOWN }),
            RESTART if features.announce_ok => {
                Ok(Self::Active { suffix, hops, cost: Cost::UNKNOWN })
            }
            _ => Err(DecodeError::InvalidValue("announce status")),
        }
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        match self {
            Self::Active { suffix, hops, cost } if features.announce_ids => {
                Writer::message(out, Some(START), |writer| {
                    writer.path(suffix)?;
                    encode_hops(writer, hops, features.hops)?;
                    encode_cost(writer, *cost)
                })
            }
            Self::Active { suffix, hops, .. } => Writer::message(out, None, |writer| {
                writer.u8(ACTIVE);
                writer.path(suffix)?;
                encode_hops(writer, hops, features.hops)
            }),
            Self::Ended { suffix } if !features.announce_ids => {
                Writer::message(out, None, |writer| {
                    writer.u8(ENDED);
                    writer.path(suffix)?;
                    encode_hops(writer, &Hops::new(), features.hops)
                })
            }
            Self::EndedId { id } if features.announce_ids => {
                Writer::message(out, Some(END), |writer| Ok(writer.varint(*id)?))
            }
            Self::Update { id, hops, cost } if features.announce_ids => {
                Writer::message(out, Some(UPDATE), |writer| {
                    writer.varint(*id)?;
                    encode_hops(writer, hops, features.hops)?;
                    encode_cost(writer, *cost)
                })
            }
            Self::Ended { .. } | Self::EndedId { .. } | Self::Update { .. } => {
                Err(EncodeError::NotInVersion)
            }
        }
    }
}

fn decode_hops(cursor: &mut Cursor<'_>, form: HopsForm) -> Result<Hops, DecodeError> {
    let count = cursor.varint()?;
    if count > Hops::MAX as u64 {
        return Err(DecodeError::TooMany);
    }
    let mut hop =
        || if form == HopsForm::Count { Ok(Hop::UNKNOWN) } else { cursor.varint().map(Hop::new) };
    (0..count).map(|_| hop()).collect()
}

fn encode_hops(writer: &mut Writer<'_>, hops: &Hops, form: HopsForm) -> Result<(), EncodeError> {
    writer.varint(hops.len() as u64)?;
    if form != HopsForm::Count {
        for hop in hops.as_slice() {
            writer.varint(hop.as_u64())?;
        }
    }
    Ok(())
}

fn decode_cost(cursor: &mut Cursor<'_>) -> Result<Cost, DecodeError> {
    Ok(Cost { warm: cursor.varint()?, cold: cursor.varint()? })
}

fn encode_cost(writer: &mut Writer<'_>, cost: Cost) -> Result<(), EncodeError> {
    writer.varint(cost.warm)?;
    Ok(writer.varint(cost.cold)?)
}
