//! Authorization tokens.

use core::fmt;

use bytes::Bytes;

/// An authorization token, with which a peer shows what it may do (moq-transport-22, 8.9).
/// Its `Debug` output shows how long the value is, and not the value, so that tokens stay out of logs.
#[derive(Clone, PartialEq, Eq)]
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

impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = format_args!("{} bytes", self.value.len());
        f.debug_struct("AuthToken").field("kind", &self.kind).field("value", &value).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stays_out_of_logs() {
        let token = AuthToken::new(7, "secret");
        assert_eq!(format!("{token:?}"), "AuthToken { kind: 7, value: 6 bytes }");
    }
}
