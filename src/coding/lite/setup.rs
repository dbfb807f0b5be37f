//! SETUP: how each side describes itself (05+).

use alloc::boxed::Box;

use bytes::BytesMut;
use smallvec::SmallVec;

use super::features::Features;
use crate::coding::cursor::Cursor;
use crate::coding::cursor::decodable;
use crate::coding::writer::encodable;
use crate::coding_error::{DecodeError, EncodeError};
use crate::hop::Hop;
use crate::version::Version;

const PROBE: u64 = 1;
const PATH: u64 = 2;
const ROLE: u64 = 3;
const COST: u64 = 4;
const HOP: u64 = 5;

/// The largest number of parameters that deployed peers accept in one message.
const MAX_PARAMETERS: u64 = 64;

/// SETUP: parameters, all of them optional. Unknown ones are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// The sender's abilities for PROBE: 0 for none, 1 to [report](Self::REPORT), 2 and above to increase
    /// the rate as well in order to measure. Absent: 0.
    pub probe: Option<u64>,
    /// The root of the session, with its query. Sent by a client on transports that do not carry a URL.
    /// Empty counts as absent.
    pub path: Option<Box<str>>,
    /// A hint of the client: 1 if it only publishes, 2 if it only subscribes. Any other value is both.
    pub role: Option<u64>,
    /// The cost of the link. Absent: 1. A free link has 0.
    pub cost: Option<u64>,
    /// The sender's hop. Absent: unknown.
    pub hop: Hop,
}

impl Setup {
    /// The sender reports its measurements of the path, see [`Setup::probe`].
    pub const REPORT: u64 = 1;

    /// Reads the body of a message.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Duplicate`] if a parameter occurs twice, for which deployed peers close the session.
    pub fn decode_body(body: &[u8], version: Version) -> Result<Self, DecodeError> {
        let features = Features::of(version);
        decodable(features.setup)?;
        features.read(body, |cursor| {
            let count = cursor.varint()?;
            if count > MAX_PARAMETERS {
                return Err(DecodeError::TooMany);
            }
            let mut setup = Self::default();
            let mut seen = SmallVec::<[u64; 8]>::new();
            for _ in 0..count {
                let id = cursor.varint()?;
                if seen.contains(&id) {
                    return Err(DecodeError::Duplicate);
                }
                seen.push(id);
                let len = cursor.varint()?;
                setup.decode_parameter(id, cursor.sub(len)?)?;
            }
            Ok(setup)
        })
    }

    fn decode_parameter(&mut self, id: u64, value: Cursor<'_>) -> Result<(), DecodeError> {
        let integer = || value.clone().whole(Cursor::varint);
        match id {
            PROBE => self.probe = Some(integer()?),
            PATH => {
                let bytes = value.clone().bytes(value.remaining() as u64)?;
                let path = core::str::from_utf8(bytes).map_err(|_| DecodeError::InvalidString)?;
                self.path = if path.is_empty() { None } else { Some(path.into()) };
            }
            ROLE => self.role = Some(integer()?),
            COST => self.cost = Some(integer()?),
            HOP => self.hop = Hop::new(integer()?),
            _ => {}
        }
        Ok(())
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut BytesMut, version: Version) -> Result<(), EncodeError> {
        let features = Features::of(version);
        encodable(features.setup)?;
        let path = self.path.as_deref().filter(|path| !path.is_empty());
        let hop = if self.hop.is_known() { Some(self.hop.as_u64()) } else { None };
        let integers = [(PROBE, self.probe), (ROLE, self.role), (COST, self.cost), (HOP, hop)];
        let count = integers.iter().filter(|(_, value)| value.is_some()).count()
            + usize::from(path.is_some());

        features.write(out, None, |writer| {
            writer.varint(count as u64)?;
            for (id, value) in integers {
                if let Some(value) = value {
                    writer.varint(id)?;
                    writer.varint(features.form.len(value) as u64)?;
                    writer.varint(value)?;
                }
            }
            if let Some(path) = path {
                writer.varint(PATH)?;
                writer.string(path)?;
            }
            Ok(())
        })
    }
}
