//! CLIENT_SETUP, SERVER_SETUP and SETUP: how each side describes itself (*Setup Options*).

use alloc::boxed::Box;
use alloc::vec::Vec;

use smallvec::SmallVec;

use super::draft::{Draft, SetupForm};
use super::fields::{Codec, Pairs, Read, Written};
use super::message::MessageType;
use super::properties::{Value, read_pairs};
use super::token::TokenReference;
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};

const PATH: u64 = 0x01;
const MAX_REQUEST_ID: u64 = 0x02;
const AUTHORIZATION_TOKEN: u64 = 0x03;
const MAX_AUTH_TOKEN_CACHE_SIZE: u64 = 0x04;
const AUTHORITY: u64 = 0x05;
const IMPLEMENTATION: u64 = 0x07;
const MAX_REQUEST_UPDATES: u64 = 0x08;
const SOLICIT: u64 = 0x40b5a;

/// Setup options, all of them optional. Unknown ones are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// PATH: path and query of the URI. Sent by a client on transports that do not carry a URL.
    pub path: Option<Box<str>>,
    /// AUTHORITY: host and port of the URI. Sent like [`Setup::path`].
    pub authority: Option<Box<str>>,
    /// MAX_REQUEST_ID (up to 16): the receiver's request ids must be below it. With the default 0 it may
    /// send no request at all. From 17 on neither written nor read.
    pub max_request_id: u64,
    /// AUTHORIZATION_TOKEN: shows what the sender may do. It may be repeated.
    pub tokens: Vec<TokenReference>,
    /// MAX_AUTH_TOKEN_CACHE_SIZE: bytes of the tokens that the receiver may register, 16 more for each.
    pub max_token_cache: u64,
    /// MOQT_IMPLEMENTATION: the name of the software.
    pub implementation: Option<Box<str>>,
    /// MAX_REQUEST_UPDATES (19+): how many updates of one request may wait for an answer; 0 is any number. Up
    /// to 18 neither written nor read.
    pub max_request_updates: u64,
    /// The peer's list of versions does not have this draft, or it selected another one (14). Only read.
    pub other_version: bool,
    /// SOLICIT, an extension of deployed peers: the receiver must announce only what was requested.
    pub solicit: bool,
}

impl Codec for Setup {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        let mut setup = Self::default();
        if draft.setup == SetupForm::Versions {
            let is_list = kind == MessageType::ClientSetup;
            setup.other_version = true;
            for _ in 0..if is_list { cursor.varint()? } else { 1 } {
                setup.other_version &= cursor.varint()? != draft.code();
            }
        }
        // From 17 on options extend to the end of the message. Up to 16 their number precedes them.
        let has_count = draft.setup != SetupForm::ToTheEnd;
        let count = if has_count { Some(cursor.varint()?) } else { None };
        let mut seen = SmallVec::<[u64; 5]>::new();
        read_pairs(cursor, draft.pair_form(), count, |id, value| {
            // An unknown option may be repeated, a known one may not (*Setup Options*).
            let is_known = setup.read_option(id, value, draft)?;
            if is_known && seen.contains(&id) {
                return Err(DecodeError::Duplicate);
            }
            seen.extend(is_known.then_some(id));
            Ok(())
        })?;
        Ok(setup)
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        if self.other_version {
            return Err(EncodeError::InvalidValue("version"));
        }
        match draft.setup {
            SetupForm::ToTheEnd => return self.write_options(writer, draft).map(|_| ()),
            SetupForm::Versions => {
                if kind == MessageType::ClientSetup {
                    writer.varint(1)?;
                }
                writer.varint(draft.code())?;
            }
            SetupForm::Counted => {}
        }
        writer.prefixed(|writer| self.write_options(writer, draft))
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
            (PATH, Value::Bytes(path)) => self.path = Some(text(path).map_err(|_| MALFORMED_PATH)?),
            (MAX_REQUEST_ID, Value::Integer(max)) if !draft.has_request_streams() => {
                self.max_request_id = max;
            }
            (AUTHORITY, Value::Bytes(authority)) => {
                self.authority = Some(text(authority).map_err(|_| MALFORMED_AUTHORITY)?)
            }
            (IMPLEMENTATION, Value::Bytes(name)) => self.implementation = Some(text(name)?),
            (MAX_REQUEST_UPDATES, Value::Integer(max)) if draft.update_limit => {
                self.max_request_updates = max;
            }
            (AUTHORIZATION_TOKEN, Value::Bytes(token)) => {
                self.tokens.push(TokenReference::read(Cursor::of(token, draft.varint))?);
                // It may be repeated.
                return Ok(false);
            }
            (MAX_AUTH_TOKEN_CACHE_SIZE, Value::Integer(max)) => self.max_token_cache = max,
            (SOLICIT, Value::Integer(solicit)) => self.solicit = solicit != 0,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the number of options written.
    fn write_options(&self, writer: &mut Writer<'_>, draft: &Draft) -> Result<u64, EncodeError> {
        let mut pairs = Pairs::new(writer, draft);
        pairs.text(PATH, &self.path)?;
        if !draft.has_request_streams() {
            pairs.number(MAX_REQUEST_ID, self.max_request_id)?;
        }
        pairs.tokens(AUTHORIZATION_TOKEN, &self.tokens)?;
        pairs.number(MAX_AUTH_TOKEN_CACHE_SIZE, self.max_token_cache)?;
        pairs.text(AUTHORITY, &self.authority)?;
        pairs.text(IMPLEMENTATION, &self.implementation)?;
        if draft.update_limit {
            pairs.number(MAX_REQUEST_UPDATES, self.max_request_updates)?;
        }
        pairs.number(SOLICIT, self.solicit.into())?;
        Ok(pairs.count)
    }
}

fn text(bytes: &[u8]) -> Result<Box<str>, DecodeError> {
    Ok(core::str::from_utf8(bytes).map_err(|_| DecodeError::InvalidString)?.into())
}

/// A PATH that is no text.
pub(crate) const MALFORMED_PATH: DecodeError = DecodeError::InvalidValue("path");
/// An AUTHORITY that is no text.
pub(crate) const MALFORMED_AUTHORITY: DecodeError = DecodeError::InvalidValue("authority");

impl Draft {
    /// The number of the draft in lists of versions (up to 14).
    fn code(&self) -> u64 {
        0xff00_0000 + u64::from(self.number)
    }
}
