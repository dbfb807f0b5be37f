//! Writing fields one behind the other: the counterpart of [`Cursor`](super::Cursor).

use core::time::Duration;

use bytes::{BufMut, BytesMut};

use super::varint::{self, Head};
use super::{BoundsExceeded, EncodeError};
use crate::path::Path;

/// Segments of a path that the deployed peers take.
const MAX_SEGMENTS: usize = 32;

/// Appends the fields of one message.
pub(super) struct Writer<'a> {
    out: &'a mut BytesMut,
}

impl Writer<'_> {
    /// Appends a whole message to `out`: its type if it has one, the length of its body, and the body
    /// that `write` appends. If that fails, `out` is as before.
    pub(super) fn message(
        out: &mut BytesMut,
        kind: Option<u64>,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        if let Err(error) = write(&mut Writer { out }) {
            out.truncate(start);
            return Err(error);
        }
        let mut head = Head::<2>::new();
        if let Some(kind) = kind {
            head.push(kind)?;
        }
        head.push((out.len() - start) as u64)?;
        // The length is known only now, and its own length with it.
        out.put_slice(&head);
        out[start..].rotate_right(head.len());
        Ok(())
    }

    pub(super) fn u8(&mut self, byte: u8) {
        self.out.put_u8(byte);
    }

    pub(super) fn varint(&mut self, value: u64) -> Result<(), BoundsExceeded> {
        varint::write(self.out, value)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    pub(super) fn string(&mut self, text: &str) -> Result<(), BoundsExceeded> {
        self.varint(text.len() as u64)?;
        self.bytes(text.as_bytes());
        Ok(())
    }

    pub(super) fn path(&mut self, path: &Path) -> Result<(), EncodeError> {
        if path.segments().nth(MAX_SEGMENTS).is_some() {
            return Err(EncodeError::TooMany);
        }
        Ok(self.string(path.as_str())?)
    }

    pub(super) fn option(&mut self, value: Option<u64>) -> Result<(), BoundsExceeded> {
        self.varint(value.map_or(0, |value| value.saturating_add(1)))
    }

    pub(super) fn millis(&mut self, duration: Duration) -> Result<(), BoundsExceeded> {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(varint::MAX);
        self.varint(millis.min(varint::MAX))
    }
}
