//! Authorization tokens.

use bytes::Bytes;

/// An authorization token, with which a peer shows what it may do (moq-transport-22, 8.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthToken {
    /// How `value` is to be read. 0 is agreed between the two ends.
    pub kind: u64,
    /// The token itself.
    pub value: Bytes,
}

impl AuthToken {
    /// A token of this type.
    pub fn new(kind: u64, value: impl Into<Bytes>) -> Self {
        Self { kind, value: value.into() }
    }
}
