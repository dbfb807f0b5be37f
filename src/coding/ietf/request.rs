//! Messages that are the same for all kinds of requests: updates, answers, and the bound on their number.

use alloc::boxed::Box;
use core::time::Duration;

use super::codes::{REDIRECT, RequestCode};
use super::draft::{Draft, ErrorForm, PropertyForm};
use super::fields::{Codec, MAX_URI, Read, Written, encodable, layout, read_text, write_text};
use super::message::MessageType;
use super::names::Target;
use super::parameters::Parameters;
use super::properties::TrackProperties;
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::EncodeError;
use crate::path::Path;

/// REQUEST_UPDATE: changes a request (*REQUEST_UPDATE*). It is itself a request, with an id of its own, and
/// is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestUpdate {
    /// Request id of the update.
    pub id: u64,
    /// The request that it changes, up to 16. Later it is the request of the stream.
    pub existing: Option<u64>,
    /// The changes. A parameter that is absent keeps its value.
    pub parameters: Parameters,
}

layout!(RequestUpdate { @id, existing, parameters });

/// REQUEST_OK and PUBLISH_OK: a request is accepted (*REQUEST_OK*).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOk {
    /// The request that is answered, up to 16. Later the stream identifies it.
    pub id: Option<u64>,
    /// Parameters of the responder.
    pub parameters: Parameters,
    /// Properties of the track, in the answer to TRACK_STATUS (18+).
    pub properties: TrackProperties,
}

impl Codec for RequestOk {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        let mut ok = Self { id: Codec::read(cursor, kind, draft)?, ..Self::default() };
        match kind {
            // On 14 the id is all of it, except where it says what SUBSCRIBE_OK would say.
            MessageType::PublishNamespaceOk | MessageType::SubscribeNamespaceOk => return Ok(ok),
            // The alias has no meaning.
            MessageType::TrackStatusOk => drop(cursor.varint()?),
            _ => {}
        }
        ok.parameters = Codec::read(cursor, kind, draft)?;
        if draft.properties >= PropertyForm::Answers {
            ok.properties = Codec::read(cursor, kind, draft)?;
        }
        Ok(ok)
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        self.id.write(writer, kind, draft)?;
        let has_properties = self.properties != TrackProperties::default();
        encodable(draft.properties >= PropertyForm::Answers || !has_properties)?;
        match kind {
            MessageType::PublishNamespaceOk | MessageType::SubscribeNamespaceOk => {
                return encodable(self.parameters == Parameters::default());
            }
            MessageType::TrackStatusOk => writer.varint(0)?,
            _ => {}
        }
        self.parameters.write(writer, kind, draft)?;
        self.properties.write(writer, kind, draft)
    }
}

/// REQUEST_ERROR: a request is refused (*REQUEST_ERROR*).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestError {
    /// The request that is answered, up to 16. Later the stream identifies it.
    pub id: Option<u64>,
    /// Why, in the registry that is common to 15 and later: [`Draft::request_error`].
    pub code: u64,
    /// How long to wait before the next attempt; `None`: do not try again. On the wire it is 0 for `None`,
    /// and otherwise one more than the milliseconds. Up to 15 it is neither written nor read.
    pub retry: Option<Duration>,
    /// Text for humans, at most 1,024 bytes.
    pub reason: Box<str>,
    /// Present if and only if the code is [`REDIRECT`] (18+).
    pub redirect: Option<Redirect>,
}

impl Codec for RequestError {
    fn read(cursor: &mut Cursor<'_>, kind: MessageType, draft: &Draft) -> Read<Self> {
        let id = Codec::read(cursor, kind, draft)?;
        let (code,) = RequestCode::read(cursor, kind, draft)?;
        let retry = if draft.errors >= ErrorForm::Retry { cursor.option_millis()? } else { None };
        let reason = Codec::read(cursor, kind, draft)?;
        let redirect = if draft.errors >= ErrorForm::Redirect && code == REDIRECT {
            let uri = read_text(cursor, MAX_URI)?;
            let (namespace, track) = Target::read(cursor, kind, draft)?;
            Some(Redirect { uri, namespace, track })
        } else {
            None
        };
        Ok(Self { id, code, retry, reason, redirect })
    }

    fn write(&self, writer: &mut Writer<'_>, kind: MessageType, draft: &Draft) -> Written {
        self.id.write(writer, kind, draft)?;
        RequestCode::write(writer, (&self.code,), kind, draft)?;
        if draft.errors >= ErrorForm::Retry {
            writer.option_millis(self.retry)?;
        }
        self.reason.write(writer, kind, draft)?;
        if draft.errors < ErrorForm::Redirect {
            return encodable(self.redirect.is_none());
        }
        if self.redirect.is_some() != (self.code == REDIRECT) {
            return Err(EncodeError::InvalidValue("redirect"));
        }
        let Some(redirect) = &self.redirect else { return Ok(()) };
        write_text(writer, &redirect.uri, MAX_URI)?;
        Target::write(writer, (&redirect.namespace, &redirect.track), kind, draft)
    }
}

/// Where to send the request instead (*Redirect*).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// Empty for this session.
    pub uri: Box<str>,
    /// The broadcast.
    pub namespace: Path,
    /// Name of the track. If namespace and name are empty, it is the same track (18, 19).
    pub track: Box<str>,
}
