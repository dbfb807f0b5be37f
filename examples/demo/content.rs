//! The content of the demo: frames in which every byte can be checked.

use std::sync::LazyLock;

use smoq::bytes::Bytes;

/// A track with a constant rate and one group per second.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// Frames per second, and so frames per group.
    pub(crate) rate: u64,
    /// Bytes of the first frame of a group.
    pub(crate) key: usize,
    /// Bytes of the other frames.
    pub(crate) delta: usize,
}

/// 5 Mbit/s.
pub(crate) const VIDEO: Plan = Plan { name: "video", rate: 30, key: 107_200, delta: 17_850 };
/// 64 kbit/s.
pub(crate) const AUDIO: Plan = Plan { name: "audio", rate: 50, key: 160, delta: 160 };

/// The header of a frame: its index, and when it was sent.
const HEADER: usize = 16;
/// A prime, so that a misplaced piece is detected.
const PERIOD: usize = 65_521;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..PERIOD + VIDEO.key).map(|_| next()).collect()
});

impl Plan {
    fn size(&self, index: u64) -> usize {
        if index % self.rate == 0 { self.key } else { self.delta }
    }

    fn body(&self, index: u64) -> &'static [u8] {
        let start = (index as usize * 7_919) % PERIOD;
        &PATTERN[start..][..self.size(index) - HEADER]
    }

    /// The `index`-th frame of the track.
    pub(crate) fn frame(&self, index: u64, sent_micros: u64) -> Bytes {
        let mut frame = Vec::with_capacity(self.size(index));
        frame.extend_from_slice(&index.to_be_bytes());
        frame.extend_from_slice(&sent_micros.to_be_bytes());
        frame.extend_from_slice(self.body(index));
        frame.into()
    }

    /// When the `index`-th frame was sent, or `None` if any byte of the frame is wrong.
    pub(crate) fn check(&self, index: u64, frame: &[u8]) -> Option<u64> {
        let (head, body) = frame.split_at_checked(HEADER)?;
        let (found, sent) = head.split_at(8);
        let is_right = found == index.to_be_bytes() && body == self.body(index);
        is_right.then(|| u64::from_be_bytes(sent.try_into().unwrap_or_default()))
    }
}
