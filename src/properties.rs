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
    pub(crate) status: u8,
    pub(crate) gap: u32,
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
    pub const NONE: Self =
        Self { pairs: Bytes::new(), form: PairForm::Absolute, status: 0, gap: 0 };

    /// `NONE` is the only value without pairs, a gap and a status.
    pub(crate) fn of_pairs(pairs: &[u8], form: PairForm) -> Self {
        if pairs.is_empty() {
            return Self::NONE;
        }
        Self { pairs: Bytes::copy_from_slice(pairs), form, ..Self::NONE }
    }

    /// The number of object ids that were left out before the object, 0 by default. Only frames of an
    /// [`Event::Subgroup`](crate::machine::Event::Subgroup) have gaps.
    pub fn gap(&self) -> u32 {
        self.gap
    }

    /// The status of the object, 0 by default (moq-transport-22, 11.2.1.1). Any other one is the end of a group or track,
    /// and has neither payload nor properties.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// The same properties, for an object after a [gap](Self::gap) and with a [status](Self::status).
    #[must_use]
    pub fn with_gap_and_status(self, gap: u32, status: u8) -> Self {
        Self { gap, status, ..self }
    }

    /// Whether it is not the next object of its group, or is no object.
    #[cfg(feature = "std")]
    pub(crate) fn is_apart(&self) -> bool {
        (self.gap, self.status) != (0, 0)
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
