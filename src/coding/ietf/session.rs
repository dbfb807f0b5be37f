//! Messages about the session as a whole: GOAWAY and the bound on request ids.

use alloc::boxed::Box;
use core::time::Duration;

use super::draft::{Draft, GoawayForm};
use super::fields::{Codec, MAX_URI, Read, Written, encodable, read_text, write_text};
use super::message::MessageType;
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;

/// GOAWAY: the receiver must make no new requests (*GOAWAY*).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Goaway {
    /// Where to connect instead, at most [`Goaway::MAX_URI`] bytes; empty for the same URI. A client must
    /// leave it empty.
    pub uri: Box<str>,
    /// How long the sender waits before it closes; zero is no bound (17+).
    pub timeout: Duration,
    /// The first request of the receiver that was not processed. Required on the control stream of 18,
    /// absent everywhere else.
    pub request: Option<u64>,
}

impl Goaway {
    /// Bytes of the longest URI that the drafts allow.
    pub const MAX_URI: usize = MAX_URI;
}

impl Codec for Goaway {
    /// Fields at the end may be missing: Cloudflare `moq-transport` 0.17 writes the URI alone
    /// (`goaway_may_lack_its_last_fields`).
    fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<Self> {
        let mut goaway = Self { uri: read_text(cursor, Self::MAX_URI)?, ..Self::default() };
        if draft.goaway >= GoawayForm::Timeout && cursor.remaining() > 0 {
            goaway.timeout = cursor.millis()?;
        }
        if draft.goaway == GoawayForm::Request && cursor.remaining() > 0 {
            goaway.request = Some(cursor.varint()?);
        }
        Ok(goaway)
    }

    /// Drafts without a timeout lose it silently: a receiver that leaves at once needs none.
    fn write(&self, writer: &mut Writer<'_>, _: MessageType, draft: &Draft) -> Written {
        write_text(writer, &self.uri, Self::MAX_URI)?;
        if draft.goaway >= GoawayForm::Timeout {
            writer.millis(self.timeout)?;
        }
        encodable(draft.goaway == GoawayForm::Request || self.request.is_none())?;
        if let Some(request) = self.request {
            writer.varint(request)?;
        }
        Ok(())
    }
}
