//! CLIENT_SETUP, SERVER_SETUP and SETUP: how each side describes itself (*Setup Options*).

use alloc::boxed::Box;

use smallvec::SmallVec;

use super::draft::{Draft, MessageType};
use super::fields::{Codec, Read, Written};
use super::properties::Value;
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};

const PATH: u64 = 0x01;
const MAX_REQUEST_ID: u64 = 0x02;
const AUTHORITY: u64 = 0x05;
const IMPLEMENTATION: u64 = 0x07;
const SOLICIT: u64 = 0x40b5a;

/// Setup options, all of them optional. Unknown ones and authorization tokens are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// PATH: path and query of the URI. Sent by a client on transports that do not carry a URL.
    pub path: Option<Box<str>>,
    /// AUTHORITY: host and port of the URI. Sent like [`Setup::path`].
    pub authority: Option<Box<str>>,
    /// MAX_REQUEST_ID (up to 16): the receiver's request ids must be below it. With the default 0 it may
    /// send no request at all. From 17 on neither written nor read.
    pub max_request_id: u64,
    /// MOQT_IMPLEMENTATION: the name of the software.
    pub implementation: Option<Box<str>>,
    /// SOLICIT, an extension of deployed peers: the receiver must announce only what was requested.
    pub solicit: bool,
}

impl Codec for Setup {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<Self> {
        let mut setup = Self::default();
        // From 17 on options extend to the end of the message. Up to 16 their number precedes them.
        let mut options = if draft.request_streams { None } else { Some(cursor.varint()?) };
        let mut seen = SmallVec::<[u64; 5]>::new();
        let mut id = 0_u64;
        while options.map_or(cursor.remaining() > 0, |left| left > 0) {
            options = options.map(|left| left - 1);
            id = id.checked_add(cursor.varint()?).ok_or(DecodeError::BoundsExceeded)?;
            if setup.read_option(id, Value::read(id, cursor)?, draft)? {
                // An unknown option may be repeated, a known one may not (*Setup Options*).
                if seen.contains(&id) {
                    return Err(DecodeError::Duplicate);
                }
                seen.push(id);
            }
        }
        Ok(setup)
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, draft: &Draft) -> Written {
        if draft.request_streams {
            return self.write_counted(writer, draft).map(|_| ());
        }
        writer.prefixed(|writer| self.write_counted(writer, draft))
    }
}

impl Setup {
    /// Stores the option if it is a known one, and returns whether it is.
    fn read_option(
        &mut self,
        id: u64,
        value: Value<'_>,
        draft: &Draft,
    ) -> Result<bool, DecodeError> {
        match (id, value) {
            (PATH, Value::Bytes(path)) => self.path = Some(text(path)?),
            (MAX_REQUEST_ID, Value::Integer(max)) if !draft.request_streams => {
                self.max_request_id = max;
            }
            (AUTHORITY, Value::Bytes(authority)) => self.authority = Some(text(authority)?),
            (IMPLEMENTATION, Value::Bytes(name)) => self.implementation = Some(text(name)?),
            (SOLICIT, Value::Integer(solicit)) => self.solicit = solicit != 0,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the number of options written.
    fn write_counted(&self, writer: &mut Writer<'_>, draft: &Draft) -> Result<u64, EncodeError> {
        let mut count = 0;
        let mut previous = 0;
        let mut begin = |writer: &mut Writer<'_>, id| {
            writer.varint(id - previous)?;
            previous = id;
            count += 1;
            Ok::<_, EncodeError>(())
        };
        if let Some(path) = &self.path {
            begin(writer, PATH)?;
            writer.string(path)?;
        }
        // The default 0 need not be written.
        if self.max_request_id > 0 && !draft.request_streams {
            begin(writer, MAX_REQUEST_ID)?;
            writer.varint(self.max_request_id)?;
        }
        if let Some(authority) = &self.authority {
            begin(writer, AUTHORITY)?;
            writer.string(authority)?;
        }
        if let Some(name) = &self.implementation {
            begin(writer, IMPLEMENTATION)?;
            writer.string(name)?;
        }
        if self.solicit {
            begin(writer, SOLICIT)?;
            writer.varint(1)?;
        }
        Ok(count)
    }
}

fn text(bytes: &[u8]) -> Result<Box<str>, DecodeError> {
    Ok(core::str::from_utf8(bytes).map_err(|_| DecodeError::InvalidString)?.into())
}
