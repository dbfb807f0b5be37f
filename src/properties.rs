//! Properties of tracks and objects, which moq-transport carries beside payloads.

use bytes::Bytes;

/// The properties of a track or an object of moq-transport, as they arrived (moq-transport-22, 8.4).
///
/// Sessions of moq-transport pass them on: unchanged if both versions encode them alike, and translated
/// otherwise. moq-lite has no place for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    pub(crate) pairs: Bytes,
    pub(crate) form: PairForm,
}

/// How key-value pairs are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PairForm {
    /// Types as they are (14, 15).
    Absolute,
    /// Types as differences (16).
    Delta,
    /// The same, with the integers of 17.
    Delta17,
    /// The same, with the integers of 18 and later.
    Delta18,
}

impl Properties {
    /// No properties. A frame has them if its publisher sent it without any, not even a timestamp.
    pub const NONE: Self = Self { pairs: Bytes::new(), form: PairForm::Absolute };

    /// `NONE` is the only value without pairs.
    pub(crate) fn of_pairs(pairs: &[u8], form: PairForm) -> Self {
        if pairs.is_empty() {
            return Self::NONE;
        }
        Self { pairs: Bytes::copy_from_slice(pairs), form }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The number of encoded bytes.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }
}
