/// A broken rule: its code (RFC 9000, section 20.1), and what the peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: u64,
    pub(crate) reason: &'static str,
}

impl Violation {
    pub(crate) const FLOW_CONTROL: Self = Self::new(0x3, "more bytes than the peer had credit for");
    pub(crate) const STREAM_LIMIT: Self =
        Self::new(0x4, "more streams than the peer had credit for");
    pub(crate) const STREAM_STATE: Self = Self::new(0x5, "a frame for a stream that can't have it");
    pub(crate) const FINAL_SIZE: Self = Self::new(0x6, "bytes after the end of a stream");
    pub(crate) const ENCODING: Self = Self::new(0x7, "a frame that can't be decoded");
    pub(crate) const FRAME: Self = Self::new(0x7, "a frame of an unknown type");
    pub(crate) const PARAMETER: Self = Self::new(0x8, "a transport parameter that is not allowed");
    pub(crate) const ORDER: Self = Self::new(0xa, "transport parameters late, or twice");
    pub(crate) const RECORD: Self = Self::new(0xa, "a record above the largest size");
    pub(crate) const PING: Self = Self::new(0xa, "an answer to a ping that was not sent");

    const fn new(code: u64, reason: &'static str) -> Self {
        Self { code, reason }
    }
}
