//! The Announce stream: a request for the broadcasts under a prefix, and its answers.

use alloc::vec::Vec;

use bytes::BytesMut;

use super::features::{Features, HopsForm};
use crate::coding::cursor::Cursor;
use crate::coding::cursor::decodable;
use crate::coding::writer::{Writer, encodable};
use crate::coding_error::{DecodeError, EncodeError};
use crate::hop::{Cost, Hop, Hops};
use crate::path::Path;
use crate::version::Version;

/// ANNOUNCE_REQUEST (also ANNOUNCE_PLEASE, INTEREST): requests announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// Only paths under this prefix.
    pub prefix: Path,
    /// Excludes broadcasts that came through this hop; an unknown hop excludes nothing. Only in 04 and 05;
    /// in other versions it is not written.
    pub exclude: Hop,
    /// Includes paths with a segment after the prefix that begins with a dot. Only in 07; in other versions
    /// it is not written.
    pub hidden: bool,
}

impl AnnounceRequest {
    /// Reads the body of a message.
    pub fn decode_body(
        body: &[u8],
        version: Version,
        max_segments: usize,
    ) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        features.read(body, |cursor| {
            let prefix = cursor.path(max_segments)?;
            let exclude =
                if features.exclude_hop { Hop::new(cursor.varint()?) } else { Hop::UNKNOWN };
            let hidden = match features.hidden.then(|| cursor.u8()).transpose()? {
                None | Some(0) => false,
                Some(1) => true,
                Some(_) => return Err(DecodeError::InvalidValue("hidden flag")),
            };
            Ok(Self { prefix, exclude, hidden })
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        features.write(out, None, |writer| {
            writer.path(&self.prefix)?;
            if features.exclude_hop {
                writer.varint(self.exclude.as_u64())?;
            }
            if features.hidden {
                writer.u8(self.hidden.into());
            }
            Ok(())
        })
    }
}

/// ANNOUNCE_INIT (up to 02): the first answer, with all current broadcasts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceInit {
    /// The paths without the requested prefix.
    pub suffixes: Vec<Path>,
}

impl AnnounceInit {
    /// Reads the body of a message.
    pub fn decode_body(
        body: &[u8],
        version: Version,
        max_segments: usize,
    ) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        decodable(features.announce_init)?;
        features.read(body, |cursor| {
            let count = cursor.varint()?;
            // A path takes at least one byte, so a large count fails before it allocates more than was
            // received.
            let suffixes =
                (0..count).map(|_| cursor.path(max_segments)).collect::<Result<_, _>>()?;
            Ok(Self { suffixes })
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        encodable(features.announce_init)?;
        features.write(out, None, |writer| {
            writer.varint(self.suffixes.len() as u64)?;
            self.suffixes.iter().try_for_each(|suffix| writer.path(suffix))
        })
    }
}

/// ANNOUNCE_OK (05+): the first answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnnounceOk {
    /// The sender's hop. The receiver appends it to the hops of every announcement.
    pub hop: Hop,
    /// The number of announcements that follow at once. Deployed peers send the right number and do not
    /// rely on it.
    pub active: u64,
}

impl AnnounceOk {
    /// Reads the body of a message.
    pub fn decode_body(body: &[u8], version: Version) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        decodable(features.announce_ok)?;
        features.read(body, |cursor| {
            Ok(Self { hop: Hop::new(cursor.varint()?), active: cursor.varint()? })
        })
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        encodable(features.announce_ok)?;
        features.write(out, None, |writer| {
            writer.varint(self.hop.as_u64())?;
            Ok(writer.varint(self.active)?)
        })
    }
}

/// A change in the set of broadcasts: ANNOUNCE up to 05, its typed successors from 06 on
/// ([`Features::announce_ids`]).
///
/// `suffix` and `hops` are as on the wire. On 07 they may be relative to another announcement, named by
/// `bases` and `base`. [`HopsForm`] says whether the sender is among the hops. A hop that occurs twice is
/// not refused here, see [`Hops::has_loop`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announce {
    /// ANNOUNCE with status active (05: or restart), ANNOUNCE_START: the broadcast is available. From 06 on
    /// they are numbered on each stream, beginning with 0.
    Active {
        /// The path without the requested prefix.
        suffix: Path,
        /// The hops that the announcement passed.
        hops: Hops,
        /// The cost of the route. Before 06 it is not written, and decoded as [`Cost::UNKNOWN`].
        cost: Cost,
        /// The parts taken from other announcements.
        bases: Bases,
    },
    /// ANNOUNCE with status ended, up to 05.
    Ended {
        /// The path without the requested prefix.
        suffix: Path,
    },
    /// ANNOUNCE_END, 06+.
    EndedId {
        /// The number of the announcement.
        id: u64,
    },
    /// ANNOUNCE_UPDATE, 06+: another route to the same broadcast.
    Update {
        /// The number of the announcement.
        id: u64,
        /// The hops of the new route.
        hops: Hops,
        /// The cost of the new route.
        cost: Cost,
        /// The announcement whose last hops follow `hops`.
        base: Base,
    },
}

/// A reference to another announcement of the same stream, and how much of it to take (07).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// How far back it is: 1 is the last ANNOUNCE_START before this message. 0 is no reference. The
    /// announcement must not have ended.
    pub back: u64,
    /// The number of segments or hops to take; 0 without a reference.
    pub keep: u64,
}

/// The parts that an announcement takes from others (07).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bases {
    /// The announcement whose first segments precede the suffix.
    pub path: Base,
    /// The announcement whose last hops follow the hops.
    pub hops: Base,
}

impl Base {
    const fn new(back: u64, keep: u64) -> Result<Self, DecodeError> {
        if back == 0 && keep > 0 {
            return Err(DecodeError::InvalidValue("announce base"));
        }
        Ok(Self { back, keep })
    }

    const fn check(self, features: &Features) -> Result<(), EncodeError> {
        match self {
            Self { back: 0, keep: 0 } => Ok(()),
            Self { back: 0, .. } => Err(EncodeError::InvalidValue("announce base")),
            _ => encodable(features.announce_bases),
        }
    }
}

const ENDED: u8 = 0;
const ACTIVE: u8 = 1;
/// Only in 05. Deployed peers never send it, and treat it as active.
const RESTART: u8 = 2;

const START: u64 = 0;
const END: u64 = 1;
const UPDATE: u64 = 2;

impl Announce {
    /// Whether a message of this type takes the next announcement number.
    pub(crate) const fn takes_id(kind: Option<u64>) -> bool {
        matches!(kind, Some(START))
    }

    /// Reads the body of a message with the type from [`Framed::kind`](super::Framed::kind). `None` is a
    /// message of an unknown type, which is skipped (06+).
    pub fn decode_body(
        kind: Option<u64>,
        body: &[u8],
        version: Version,
        max_segments: usize,
    ) -> Result<Option<Self>, DecodeError> {
        let features = Features::of(version);
        if !features.announce_ids {
            return features
                .read(body, |cursor| Self::decode_status(cursor, features, max_segments))
                .map(Some);
        }
        let message = match kind {
            Some(START) => features.read(body, |cursor| {
                let (suffix, path) = decode_suffix(cursor, features, max_segments)?;
                let (hops, base) = decode_chain(cursor, features)?;
                let bases = Bases { path, hops: base };
                Ok(Self::Active { suffix, hops, cost: decode_cost(cursor)?, bases })
            }),
            Some(END) => features.read(body, |cursor| Ok(Self::EndedId { id: cursor.varint()? })),
            Some(UPDATE) => features.read(body, |cursor| {
                let id = cursor.varint()?;
                let (hops, base) = decode_chain(cursor, features)?;
                Ok(Self::Update { id, hops, cost: decode_cost(cursor)?, base })
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
        let (cost, bases) = (Cost::UNKNOWN, Bases::default());
        match status {
            ENDED => Ok(Self::Ended { suffix }),
            ACTIVE => Ok(Self::Active { suffix, hops, cost, bases }),
            RESTART if features.announce_ok => Ok(Self::Active { suffix, hops, cost, bases }),
            _ => Err(DecodeError::InvalidValue("announce status")),
        }
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        match self {
            Self::Active { suffix, hops, cost, bases } if features.announce_ids => {
                features.write(out, Some(START), |writer| {
                    encode_suffix(writer, features, suffix, bases.path)?;
                    encode_chain(writer, features, hops, bases.hops)?;
                    encode_cost(writer, *cost)
                })
            }
            Self::Active { suffix, hops, bases, .. } => features.write(out, None, |writer| {
                encodable(*bases == Bases::default())?;
                writer.u8(ACTIVE);
                writer.path(suffix)?;
                encode_hops(writer, hops, features.hops)
            }),
            Self::Ended { suffix } if !features.announce_ids => {
                features.write(out, None, |writer| {
                    writer.u8(ENDED);
                    writer.path(suffix)?;
                    encode_hops(writer, &Hops::new(), features.hops)
                })
            }
            Self::EndedId { id } if features.announce_ids => {
                features.write(out, Some(END), |writer| Ok(writer.varint(*id)?))
            }
            Self::Update { id, hops, cost, base } if features.announce_ids => {
                features.write(out, Some(UPDATE), |writer| {
                    writer.varint(*id)?;
                    encode_chain(writer, features, hops, *base)?;
                    encode_cost(writer, *cost)
                })
            }
            Self::Ended { .. } | Self::EndedId { .. } | Self::Update { .. } => {
                Err(EncodeError::NotInVersion)
            }
        }
    }
}

/// A path, preceded by the reference for its first segments if the version has references.
fn decode_suffix(
    cursor: &mut Cursor<'_>,
    features: &Features,
    max_segments: usize,
) -> Result<(Path, Base), DecodeError> {
    let mut base = Base::default();
    if features.announce_bases {
        base = Base::new(cursor.varint()?, cursor.varint()?)?;
    }
    Ok((cursor.path(max_segments)?, base))
}

fn encode_suffix(
    writer: &mut Writer<'_>,
    features: &Features,
    suffix: &Path,
    base: Base,
) -> Result<(), EncodeError> {
    base.check(features)?;
    if features.announce_bases {
        writer.varint(base.back)?;
        writer.varint(base.keep)?;
    }
    writer.path(suffix)
}

/// Hops, with the reference for the last of them split around them if the version has references.
fn decode_chain(cursor: &mut Cursor<'_>, features: &Features) -> Result<(Hops, Base), DecodeError> {
    if !features.announce_bases {
        return Ok((decode_hops(cursor, features.hops)?, Base::default()));
    }
    let back = cursor.varint()?;
    let hops = decode_hops(cursor, features.hops)?;
    Ok((hops, Base::new(back, cursor.varint()?)?))
}

fn encode_chain(
    writer: &mut Writer<'_>,
    features: &Features,
    hops: &Hops,
    base: Base,
) -> Result<(), EncodeError> {
    base.check(features)?;
    if !features.announce_bases {
        return encode_hops(writer, hops, features.hops);
    }
    writer.varint(base.back)?;
    encode_hops(writer, hops, features.hops)?;
    Ok(writer.varint(base.keep)?)
}

fn decode_hops(cursor: &mut Cursor<'_>, form: HopsForm) -> Result<Hops, DecodeError> {
    if form == HopsForm::Absent {
        return Ok(Hops::new());
    }
    let count = cursor.varint()?;
    if count > Hops::MAX as u64 {
        return Err(DecodeError::TooMany);
    }
    if form == HopsForm::Count {
        return Ok(core::iter::repeat_n(Hop::UNKNOWN, count as usize).collect());
    }
    (0..count).map(|_| cursor.varint().map(Hop::new)).collect()
}

fn encode_hops(writer: &mut Writer<'_>, hops: &Hops, form: HopsForm) -> Result<(), EncodeError> {
    if form == HopsForm::Absent {
        return Ok(());
    }
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
