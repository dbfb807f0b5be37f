//! Namespaces and track names, and their form as paths (*Track Naming*).
//!
//! A broadcast's path is its namespace: each field is a segment. A slash or backslash inside a field is
//! escaped with a backslash, as deployed peers do.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;

use super::draft::{ControlStreams, Draft};
use super::fields::{Codec, Read, Written};
use super::message::MessageType;
use crate::coding::cursor::Cursor;
use crate::coding::writer::Writer;
use crate::coding_error::{DecodeError, EncodeError};
use crate::path::Path;

/// The largest number of fields in a namespace.
const MAX_FIELDS: u64 = 32;

/// Bytes of the longest full track name: the fields of its namespace and the name itself.
pub(super) const MAX_FULL_NAME: usize = 4_096;

/// A prefix or suffix. Unlike the namespace of a broadcast it may be empty in every draft.
impl Codec for Path {
    fn read(cursor: &mut Cursor<'_>, _: MessageType, _: &Draft) -> Read<Self> {
        Ok(read_fields(cursor, 0)?.0)
    }

    fn write(&self, writer: &mut Writer<'_>, _: MessageType, _: &Draft) -> Written {
        write_fields(writer, self).map(|_| ())
    }
}

/// The form of the namespace of a broadcast.
pub(super) struct Broadcast;

impl Broadcast {
    pub(super) fn read(cursor: &mut Cursor<'_>, _: MessageType, draft: &Draft) -> Read<(Path,)> {
        Ok((read_fields(cursor, min_fields(draft))?.0,))
    }

    pub(super) fn write(
        writer: &mut Writer<'_>,
        (path,): (&Path,),
        _: MessageType,
        draft: &Draft,
    ) -> Written {
        check_namespace(path, draft)?;
        write_fields(writer, path).map(|_| ())
    }
}

/// The form of a namespace and of the name of a track in it. If `ROOT`, the namespace may be empty in every draft.
pub(super) struct Names<const ROOT: bool>;

/// The names of a track.
pub(super) type FullName = Names<false>;
/// Names that need not be those of a track.
pub(super) type Target = Names<true>;

impl<const ROOT: bool> Names<ROOT> {
    pub(super) fn read(
        cursor: &mut Cursor<'_>,
        _: MessageType,
        draft: &Draft,
    ) -> Read<(Path, Box<str>)> {
        let (namespace, len) = read_fields(cursor, if ROOT { 0 } else { min_fields(draft) })?;
        Ok((namespace, read_name(cursor, len)?))
    }

    pub(super) fn write(
        writer: &mut Writer<'_>,
        (namespace, name): (&Path, &str),
        _: MessageType,
        draft: &Draft,
    ) -> Written {
        if !ROOT {
            check_namespace(namespace, draft)?;
        }
        if write_fields(writer, namespace)? + name.len() > MAX_FULL_NAME {
            return Err(EncodeError::TooLong);
        }
        Ok(writer.string(name)?)
    }
}

impl Draft {
    /// Whether a broadcast can have this path. Up to 16 a namespace needs a field, so the root is excluded.
    pub(crate) fn has_namespace(&self, path: &Path) -> bool {
        self.has_request_streams() || !path.is_root()
    }

    /// Whether announcements can be requested under this path. Up to 15 the root is excluded.
    pub(crate) fn has_prefix(&self, path: &Path) -> bool {
        self.control > ControlStreams::Single || !path.is_root()
    }
}

fn min_fields(draft: &Draft) -> u64 {
    u64::from(!draft.has_request_streams())
}

fn read_name(cursor: &mut Cursor<'_>, namespace_len: usize) -> Result<Box<str>, DecodeError> {
    let len = cursor.varint()?;
    let name = cursor.bytes(len)?;
    // The limit is on the namespace and the name together. A longer one ends the session (*Track Naming*).
    if namespace_len + name.len() > MAX_FULL_NAME {
        return Err(DecodeError::TooLong);
    }
    Ok(core::str::from_utf8(name).map_err(|_| DecodeError::InvalidName)?.into())
}

/// Reads the fields of a namespace as a path, and their size in bytes.
fn read_fields(cursor: &mut Cursor<'_>, min_fields: u64) -> Result<(Path, usize), DecodeError> {
    let count = cursor.varint()?;
    // Checked before the fields are read, so that a count reserves no memory.
    if count > MAX_FIELDS {
        return Err(DecodeError::TooMany);
    }
    if count < min_fields {
        return Err(DecodeError::InvalidValue("namespace without fields"));
    }
    let mut text = String::new();
    let mut total = 0;
    for _ in 0..count {
        let len = cursor.varint()?;
        let field = cursor.bytes(len)?;
        total += field.len();
        if total > MAX_FULL_NAME {
            return Err(DecodeError::TooLong);
        }
        let field = core::str::from_utf8(field).map_err(|_| DecodeError::InvalidName)?;
        // Paths drop slashes at the end of a segment, even escaped ones, so such a field has no path.
        if field.is_empty() || field.ends_with('/') {
            return Err(DecodeError::InvalidName);
        }
        if !text.is_empty() {
            text.push('/');
        }
        for c in field.chars() {
            if matches!(c, '/' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
    }
    Ok((Path::from(text), total))
}

/// Up to 16 there is no broadcast at the root: only prefixes and suffixes may be empty.
fn check_namespace(namespace: &Path, draft: &Draft) -> Result<(), EncodeError> {
    match draft.has_namespace(namespace) {
        true => Ok(()),
        false => Err(EncodeError::InvalidValue("a broadcast at the root before draft 17")),
    }
}

/// Returns the size of all fields in bytes.
fn write_fields(writer: &mut Writer<'_>, path: &Path) -> Result<usize, EncodeError> {
    let count = fields(path).count() as u64;
    if count > MAX_FIELDS {
        return Err(EncodeError::TooMany);
    }
    writer.varint(count)?;
    let mut total = 0;
    for field in fields(path) {
        let field = unescape(field)?;
        total += field.len();
        writer.string(&field)?;
    }
    if total > MAX_FULL_NAME { Err(EncodeError::TooLong) } else { Ok(total) }
}

/// The fields of a path, still escaped.
fn fields(path: &Path) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    let fields = path.as_str().split(move |c| {
        let ends = c == '/' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    // Splitting the root yields one empty field, which does not exist. No other path has empty fields.
    fields.filter(|field| !field.is_empty())
}

fn unescape(field: &str) -> Result<Cow<'_, str>, EncodeError> {
    if !field.contains('\\') {
        return Ok(field.into());
    }
    let mut text = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        text.push(match c {
            '\\' => match chars.next() {
                Some(c @ ('/' | '\\')) => c,
                // Written as a plain backslash, it would come back as two, which is another path.
                _ => return Err(EncodeError::InvalidValue("a backslash in a path")),
            },
            c => c,
        });
    }
    Ok(text.into())
}
