//! A payload in the pieces that QUIC delivered.

use alloc::vec::Vec;
use core::{fmt, slice};

use bytes::{Bytes, BytesMut};

/// A list of chunks keeps the room for so many while it is empty.
pub(crate) const KEPT_CHUNKS: usize = 32;

/// The payload of a frame, or the part of it that has arrived, in the pieces in which it arrived. The receiver copies
/// them to where they stay, so that they need not be joined before.
#[derive(Clone)]
pub struct Chunks(Pieces);

/// No larger than one piece, because most frames arrive in one.
#[derive(Clone)]
enum Pieces {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Chunks {
    pub(crate) fn many(pieces: Vec<Bytes>) -> Self {
        Self(Pieces::Many(pieces))
    }

    /// The list of several pieces, emptied, for another payload.
    pub(crate) fn recycle(self) -> Option<Vec<Bytes>> {
        let Pieces::Many(mut pieces) = self.0 else { return None };
        pieces.clear();
        (pieces.capacity() <= KEPT_CHUNKS).then_some(pieces)
    }

    /// The pieces in order.
    pub fn as_slice(&self) -> &[Bytes] {
        match &self.0 {
            Pieces::One(piece) => slice::from_ref(piece),
            Pieces::Many(pieces) => pieces,
        }
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.as_slice().iter().map(Bytes::len).sum()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes in one piece. They are copied if there are several.
    pub fn to_bytes(&self) -> Bytes {
        match self.as_slice() {
            [whole] => whole.clone(),
            pieces => {
                let mut joined = BytesMut::with_capacity(self.len());
                pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
                joined.freeze()
            }
        }
    }
}

impl From<Bytes> for Chunks {
    fn from(bytes: Bytes) -> Self {
        Self(Pieces::One(bytes))
    }
}

/// Equal bytes are equal in whatever pieces.
impl PartialEq for Chunks {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.as_slice().iter().flatten().eq(other.as_slice().iter().flatten())
    }
}

impl Eq for Chunks {}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}
