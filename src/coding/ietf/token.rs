//! Authorization tokens in parameters and options (*Authorization Token Compression*).

use bytes::Bytes;

use super::fields::{Read, Written};
use crate::auth_token::AuthToken;
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::DecodeError;

const DELETE: u64 = 0;
const REGISTER: u64 = 1;
const USE_ALIAS: u64 = 2;
const USE_VALUE: u64 = 3;

/// A token in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenReference {
    /// DELETE: this alias is not used any more.
    Delete(u64),
    /// REGISTER: the token has this alias from now on.
    Register(u64, AuthToken),
    /// USE_ALIAS: the token that was registered with this alias.
    Alias(u64),
    /// USE_VALUE: this token.
    Value(AuthToken),
}

/// A value that does not fit its type, such as a token that does not parse, closes the session with
/// KEY_VALUE_FORMATTING_ERROR.
pub(crate) const MALFORMED_VALUE: DecodeError = DecodeError::InvalidValue("value of its type");

impl TokenReference {
    /// Reads the value of the parameter or option.
    pub(super) fn read(cursor: Cursor<'_>) -> Read<Self> {
        let read = cursor.whole(|cursor| {
            let kind = cursor.varint()?;
            Ok(match kind {
                DELETE => Self::Delete(cursor.varint()?),
                REGISTER => Self::Register(cursor.varint()?, read_token(cursor)?),
                USE_ALIAS => Self::Alias(cursor.varint()?),
                USE_VALUE => Self::Value(read_token(cursor)?),
                _ => return Err(MALFORMED_VALUE),
            })
        });
        read.map_err(|_| MALFORMED_VALUE)
    }

    /// Writes the value, with its length.
    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Written {
        writer.block(|writer| {
            let (kind, alias, token) = match self {
                Self::Delete(alias) => (DELETE, Some(*alias), None),
                Self::Register(alias, token) => (REGISTER, Some(*alias), Some(token)),
                Self::Alias(alias) => (USE_ALIAS, Some(*alias), None),
                Self::Value(token) => (USE_VALUE, None, Some(token)),
            };
            writer.varint(kind)?;
            if let Some(alias) = alias {
                writer.any_varint(alias)?;
            }
            if let Some(token) = token {
                writer.any_varint(token.kind)?;
                writer.bytes(&token.value);
            }
            Ok(())
        })
    }
}

/// The type of a token, and its value up to the end.
fn read_token(cursor: &mut Cursor<'_>) -> Read<AuthToken> {
    let kind = cursor.varint()?;
    let value = cursor.bytes(cursor.remaining() as u64)?;
    Ok(AuthToken { kind, value: Bytes::copy_from_slice(value) })
}
