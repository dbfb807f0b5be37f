//! Writing one field after the other: the counterpart of [`Cursor`](super::Cursor).

use core::time::Duration;

use bytes::{BufMut, BytesMut};

use super::varint::{self, Form, Head};
use crate::coding_error::{BoundsExceeded, EncodeError};
use crate::path::Path;

/// The largest number of path segments that deployed peers accept.
pub(crate) const MAX_SEGMENTS: usize = 32;

/// Fails for messages and fields that the version does not have.
pub(super) const fn encodable(in_version: bool) -> Result<(), EncodeError> {
    if in_version { Ok(()) } else { Err(EncodeError::NotInVersion) }
}

/// Appends the fields of one message.
pub(super) struct Writer<'a> {
    out: &'a mut BytesMut,
    form: Form,
}

impl Writer<'_> {
    /// Appends a whole message to `out`: its type if it has one, the length of its body, and the body that
    /// `write` appends. On an error `out` is unchanged.
    pub(super) fn message(
        out: &mut BytesMut,
        form: Form,
        kind: Option<u64>,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        Writer::bare(out, form, write)?;
        let mut head = Head::<2>::of(form);
        if let Some(kind) = kind {
            head.push(kind)?;
        }
        head.push((out.len() - start) as u64)?;
        // The length, and the length of its encoding, are known only after the body is written.
        out.put_slice(&head);
        out[start..].rotate_right(head.len());
        Ok(())
    }

    /// Appends the fields that `write` appends. On an error `out` is unchanged.
    pub(super) fn bare(
        out: &mut BytesMut,
        form: Form,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = out.len();
        let result = write(&mut Writer { out, form });
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// Appends a whole control message of moq-transport: its type, the length of its body in two bytes, and
    /// the body that `write` appends. On an error `out` is unchanged.
    pub(super) fn control(
        out: &mut BytesMut,
        form: Form,
        kind: u64,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        Writer::bare(out, form, |writer| {
            writer.varint(kind)?;
            let start = writer.out.len();
            writer.out.put_u16(0);
            write(writer)?;
            let body = writer.out.len() - start - 2;
            let body = u16::try_from(body).map_err(|_| EncodeError::TooLong)?;
            writer.out[start..start + 2].copy_from_slice(&body.to_be_bytes());
            Ok(())
        })
    }

    /// Appends the fields that `write` appends, preceded by their length.
    pub(super) fn block(
        &mut self,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.prefixed(|writer| {
            let start = writer.out.len();
            write(writer)?;
            Ok((writer.out.len() - start) as u64)
        })
    }

    /// Appends the fields that `write` appends, preceded by the number that it returns.
    pub(super) fn prefixed(
        &mut self,
        write: impl FnOnce(&mut Writer<'_>) -> Result<u64, EncodeError>,
    ) -> Result<(), EncodeError> {
        let start = self.out.len();
        let mut head = Head::<1>::of(self.form);
        head.push(write(self)?)?;
        self.out.put_slice(&head);
        self.out[start..].rotate_right(head.len());
        Ok(())
    }

    pub(super) fn u8(&mut self, byte: u8) {
        self.out.put_u8(byte);
    }

    pub(super) fn varint(&mut self, value: u64) -> Result<(), BoundsExceeded> {
        if value > varint::MAX {
            return Err(BoundsExceeded);
        }
        self.form.write(self.out, value)
    }

    /// An integer that may be above [`varint::MAX`], where the form allows it.
    pub(super) fn any_varint(&mut self, value: u64) -> Result<(), BoundsExceeded> {
        self.form.write(self.out, value)
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
        self.varint(to_millis(duration))
    }

    /// The longest duration is a millisecond shorter than that of [`Writer::millis`], because 0 stands for
    /// `None`.
    pub(super) fn option_millis(&mut self, value: Option<Duration>) -> Result<(), BoundsExceeded> {
        self.option(value.map(|duration| to_millis(duration).min(varint::MAX - 1)))
    }
}

/// Whole milliseconds, at most [`varint::MAX`], which stands for no bound.
pub(super) fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(varint::MAX).min(varint::MAX)
}
