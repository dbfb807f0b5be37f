//! The buffers of one stream: bytes that arrived and wait to be decoded, and messages that wait to
//! be sent.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::mem;

use bytes::{Buf, Bytes, BytesMut};

use crate::census::census;
use crate::coding::DecodeError;
use crate::limits::Limits;
use crate::machine::chunks::{Chunks, KEPT_CHUNKS};
use crate::stream::Code;

/// How far past the limit a stream may go before it is stopped: the size of one read of an adapter.
pub(crate) const ONE_READ: usize = 64 << 10;

/// How many bytes one stream may hold. A whole message must fit, with its head.
pub(crate) fn buffer_limit(limits: &Limits) -> usize {
    limits.stream_buffer.max(limits.message_bytes.saturating_add(MESSAGE_HEAD))
}

/// The longest head of a message: stream type, message type and length.
const MESSAGE_HEAD: usize = 24;

/// Chunks below this size are copied together. A `Bytes` keeps the whole packet that brought it,
/// which may be much larger.
pub(crate) const SMALL: usize = 512;
/// The memory of the waiting bytes may be so many times their number.
const SLACK: usize = 4;

/// The peer's half of a stream: appended to as data arrives, decoded when an event is pulled. Its
/// memory is a small multiple of the bytes that wait, however small the pieces are in which they
/// arrive.
#[derive(Debug, Default)]
pub(crate) struct RecvBuffer {
    /// Large chunks, as they arrived.
    chunks: VecDeque<Bytes>,
    /// Small chunks, joined; after all others.
    tail: BytesMut,
    /// The most that `tail` has held.
    peak: usize,
    len: usize,
    fin: bool,
    reset: Option<Code>,
    /// The stream must not be read on: the buffer was full, or its subscription is not known yet.
    /// QUIC keeps the rest.
    held: bool,
}

impl RecvBuffer {
    /// Appends. Returns `false` if the sender of these bytes ignores the limit.
    pub(crate) fn push(&mut self, bytes: Bytes, fin: bool, limit: usize) -> bool {
        if self.fin || self.reset.is_some() {
            return true;
        }
        self.fin = fin;
        self.len += bytes.len();
        match bytes.len() {
            0 => {}
            1..SMALL => self.append(&bytes),
            _ => {
                self.freeze();
                self.chunks.push_back(bytes);
            }
        }
        if self.len >= limit {
            self.held = true;
        }
        self.len <= limit.saturating_add(ONE_READ)
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.tail.is_empty() {
            self.tail = BytesMut::from(bytes);
        } else {
            self.tail.extend_from_slice(bytes);
        }
        self.peak = self.peak.max(self.tail.len());
    }

    /// Makes the tail a chunk, because a large chunk follows it.
    fn freeze(&mut self) {
        self.compact();
        if !self.tail.is_empty() {
            self.peak = 0;
            self.chunks.push_back(mem::take(&mut self.tail).freeze());
        }
    }

    /// Frees the memory of bytes that were decoded.
    fn compact(&mut self) {
        if self.tail.len() * SLACK < self.peak {
            self.peak = self.tail.len();
            self.tail = BytesMut::from(&self.tail[..]);
        }
    }

    /// The bytes have to wait: keeps no packet and no memory that they do not need.
    fn shrink(&mut self) {
        if self.chunks.len() == 1 && self.len < SMALL {
            let mut whole = BytesMut::with_capacity(self.len);
            whole.extend_from_slice(&self.chunks[0]);
            whole.extend_from_slice(&self.tail);
            (self.tail, self.peak) = (whole, self.len);
            self.chunks.clear();
        }
        self.compact();
        if self.chunks.is_empty() && self.chunks.capacity() > KEPT_CHUNKS {
            self.chunks = VecDeque::new();
        }
    }

    /// Discards everything but the memory of the list, for another stream.
    pub(crate) fn recycle(mut self) -> Self {
        self.chunks.clear();
        Self { chunks: self.chunks, ..Self::default() }
    }

    /// The peer reset its half. If FIN arrived before, the reset means nothing.
    pub(crate) fn reset_by_peer(&mut self, code: Code) {
        if !self.fin {
            self.abandon(code);
        }
    }

    /// Discards what was not decoded. Nothing more counts.
    pub(crate) fn abandon(&mut self, code: Code) {
        self.discard();
        self.reset.get_or_insert(code);
    }

    /// Discards what was not decoded.
    pub(crate) fn discard(&mut self) {
        self.chunks = VecDeque::new();
        self.tail = BytesMut::new();
        (self.len, self.peak) = (0, 0);
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// FIN arrived, and everything before it was decoded.
    pub(crate) fn is_finished(&self) -> bool {
        self.fin && self.len == 0 && self.reset.is_none()
    }

    /// FIN arrived, perhaps after bytes that wait.
    pub(crate) fn has_fin(&self) -> bool {
        self.fin
    }

    pub(crate) fn reset(&self) -> Option<Code> {
        self.reset
    }

    /// Nothing more will arrive.
    pub(crate) fn is_over(&self) -> bool {
        self.fin || self.reset.is_some()
    }

    pub(crate) fn read_limit(&self, limit: usize) -> usize {
        if self.held { 0 } else { limit.saturating_sub(self.len) }
    }

    /// Reads the stream no further, until [`release`](Self::release).
    pub(crate) fn hold(&mut self) {
        self.held = true;
        self.shrink();
    }

    /// Whether the stream, which was held, is to be read on from now: there is room again, or the
    /// bytes that wait are not enough to go on (`starved`).
    pub(crate) fn release(&mut self, limit: usize, starved: bool) -> bool {
        if starved {
            self.shrink();
        }
        let release = self.held && (starved || self.len <= limit / 2);
        if release {
            self.held = false;
        }
        release && !self.is_over()
    }

    /// The first bytes, as many as there are and fit.
    pub(crate) fn peek<'a>(&self, into: &'a mut [u8]) -> &'a [u8] {
        let mut filled = 0;
        for chunk in self.chunks.iter().map(|chunk| &chunk[..]).chain([&self.tail[..]]) {
            let n = chunk.len().min(into.len() - filled);
            into[filled..filled + n].copy_from_slice(&chunk[..n]);
            filled += n;
            if filled == into.len() {
                break;
            }
        }
        &into[..filled]
    }

    pub(crate) fn skip(&mut self, mut n: usize) {
        debug_assert!(n <= self.len);
        self.len -= n;
        while n > 0 {
            let Some(front) = self.chunks.front_mut() else { return self.tail.advance(n) };
            let step = n.min(front.len());
            front.advance(step);
            n -= step;
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
    }

    /// The first `n` bytes, which must be there, in one piece.
    pub(crate) fn take(&mut self, n: usize) -> Bytes {
        self.take_chunks(n, &mut Vec::new()).to_bytes()
    }

    /// The body of the message at the front, and its head is dropped. `sizes`: of both, once they are known. `None` if the
    /// message is not complete; FIN inside of it is malformed.
    pub(crate) fn take_message(
        &mut self,
        sizes: Option<(usize, usize)>,
    ) -> Result<Option<Bytes>, DecodeError> {
        match sizes {
            Some((head, body)) if self.len >= head + body => {
                self.skip(head);
                Ok(Some(self.take(body)))
            }
            _ if self.fin && self.len > 0 => Err(DecodeError::Truncated),
            _ => Ok(None),
        }
    }

    /// The first `n` bytes, which must be there, without copying. Several chunks take the empty `list`.
    pub(crate) fn take_chunks(&mut self, mut n: usize, list: &mut Vec<Bytes>) -> Chunks {
        debug_assert!(n <= self.len);
        let first = self.take_some(n);
        n -= first.len();
        if n == 0 {
            return first.into();
        }
        let mut pieces = mem::take(list);
        pieces.push(first);
        while n > 0 {
            let piece = self.take_some(n);
            n -= piece.len();
            pieces.push(piece);
        }
        Chunks::many(pieces)
    }

    /// At most `max` bytes, without copying.
    pub(crate) fn take_some(&mut self, max: usize) -> Bytes {
        let Some(front) = self.chunks.front_mut() else {
            let n = max.min(self.tail.len());
            self.len -= n;
            if n < self.tail.len() {
                return self.tail.split_to(n).freeze();
            }
            self.peak = 0;
            return mem::take(&mut self.tail).freeze();
        };
        let n = max.min(front.len());
        let piece = front.split_to(n);
        if front.is_empty() {
            self.chunks.pop_front();
        }
        self.len -= n;
        piece
    }

    /// The number of large chunks, and the memory of the others.
    #[cfg(test)]
    fn cost(&self) -> (usize, usize) {
        (self.chunks.len(), self.peak)
    }
}

/// Our half of a stream that carries messages.
#[derive(Debug, Default)]
pub(crate) struct SendBuffer {
    buffer: BytesMut,
    /// FIN follows the buffer.
    fin: bool,
    fin_sent: bool,
    reset: bool,
}

impl SendBuffer {
    /// Where messages are encoded.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Sends FIN after the buffer.
    pub(crate) fn finish(&mut self) {
        self.fin = true;
    }

    /// Sends nothing more, and discards the buffer. Returns `false` if the half was over before.
    pub(crate) fn abandon(&mut self) -> bool {
        let was_open = !self.is_over();
        self.buffer.clear();
        self.reset = true;
        was_open
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.is_over() && (!self.buffer.is_empty() || self.fin)
    }

    /// QUIC accepted FIN, or the half was reset.
    pub(crate) fn is_over(&self) -> bool {
        self.fin_sent || self.reset
    }

    /// Up to `max` bytes to write, and whether FIN follows them.
    pub(crate) fn offer(&mut self, max: usize) -> (Bytes, bool) {
        let n = self.buffer.len().min(max);
        (Bytes::copy_from_slice(&self.buffer[..n]), self.fin && n == self.buffer.len())
    }

    pub(crate) fn accepted(&mut self, n: usize, fin: bool) {
        self.buffer.advance(n);
        self.fin_sent |= fin;
    }
}

census! { RecvBuffer { counts: chunks, tail; plain: peak, len, fin, reset, held; } }
census! { SendBuffer { counts: buffer; plain: fin, fin_sent, reset; } }

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    const LIMIT: usize = 64 << 10;

    fn in_pieces(pieces: impl IntoIterator<Item = usize>) -> (RecvBuffer, Vec<u8>) {
        let (mut recv, mut all) = (RecvBuffer::default(), Vec::new());
        for (n, len) in pieces.into_iter().enumerate() {
            let piece: Vec<u8> = (0..len).map(|at| (n * 31 + at) as u8).collect();
            all.extend_from_slice(&piece);
            assert!(recv.push(piece.into(), false, LIMIT));
        }
        (recv, all)
    }

    #[test]
    fn what_comes_in_any_pieces_is_read_in_any_pieces() {
        for pieces in
            [[1; 12], [511; 12], [512; 12], [1, 600, 2, 3, 1_400, 0, 5, 700, 800, 1, 1, 9]]
        {
            for step in [1, 2, 7, 500, 513, 4_000] {
                let (mut recv, all) = in_pieces(pieces);
                let mut read = Vec::new();
                let mut turn = 0;
                while recv.len() > 0 {
                    let n = step.min(recv.len());
                    assert_eq!(recv.peek(&mut [0; 4_000][..n]), &all[read.len()..][..n]);
                    turn += 1;
                    match turn % 4 {
                        0 => read.extend_from_slice(&recv.take(n)),
                        1 => read.extend_from_slice(&recv.take_some(n)),
                        2 => {
                            read.extend_from_slice(&all[read.len()..][..n]);
                            recv.skip(n);
                        }
                        _ => recv.shrink(),
                    }
                }
                assert_eq!(read, all, "{pieces:?} by {step}");
            }
        }
    }

    #[test]
    fn small_chunks_keep_no_packets_and_large_ones_are_not_copied() {
        let (recv, _) = in_pieces(core::iter::repeat_n(1, 60_000));
        assert_eq!(recv.cost(), (0, 60_000));
        let large = Bytes::from(alloc::vec![7; SMALL]);
        let mut recv = RecvBuffer::default();
        recv.push(large.clone(), false, LIMIT);
        assert_eq!(recv.take(SMALL).as_ptr(), large.as_ptr());
    }

    #[test]
    fn what_came_in_several_chunks_stays_where_it_is() {
        let (mut recv, all) = in_pieces([SMALL, SMALL, 100]);
        let chunks: Vec<_> = recv.chunks.iter().cloned().collect();
        let taken = recv.take_chunks(2 * SMALL + 100, &mut Vec::new());
        let places = |chunks: &[Bytes]| -> Vec<_> { chunks.iter().map(|it| it.as_ptr()).collect() };
        assert_eq!(places(&taken.as_slice()[..2]), places(&chunks));
        assert_eq!((taken.len(), taken.to_bytes().to_vec()), (all.len(), all));
        assert_eq!(recv.len(), 0);
    }

    #[test]
    fn the_next_stream_takes_over_the_list_of_chunks_but_nothing_in_it() {
        let (mut recv, _) = in_pieces([SMALL; 20]);
        recv.push(Bytes::new(), true, LIMIT);
        let room = recv.chunks.capacity();
        let next = recv.recycle();
        assert_eq!((next.len(), next.cost(), next.has_fin()), (0, (0, 0), false));
        assert_eq!(next.chunks.capacity(), room);
    }

    #[test]
    fn the_rest_of_something_large_that_waits_keeps_little() {
        let packet = Bytes::from(alloc::vec![7; 1_400]);
        let mut recv = RecvBuffer::default();
        recv.push(packet.clone(), false, LIMIT);
        recv.skip(1_399);
        recv.release(LIMIT, true);
        assert_eq!(recv.cost(), (0, 1));
        drop(recv);
        assert!(packet.is_unique());
        let (mut recv, all) = in_pieces(core::iter::repeat_n(1, 60_000));
        recv.skip(59_999);
        recv.release(LIMIT, true);
        assert_eq!(recv.cost(), (0, 1));
        assert_eq!(recv.take(1), all[59_999..]);
    }
}
