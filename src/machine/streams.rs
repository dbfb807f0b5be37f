//! What every stream needs: bytes that came in and wait to be decoded, bytes that wait to go out.

use alloc::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::census::census;
use crate::limits::Limits;
use crate::stream::Code;

/// One read of an adapter: how far past the limit a stream may go before it is reset.
pub(super) const ONE_READ: usize = 64 << 10;

/// Bytes that one stream may hold: a whole message must fit, with its head.
pub(super) fn buffer(limits: &Limits) -> usize {
    limits.stream_buffer.max(limits.message_bytes.saturating_add(MESSAGE_HEAD))
}

/// Stream type, message type and length at their longest.
const MESSAGE_HEAD: usize = 24;

/// The peer's half of a stream: appended to as it comes, decoded when an event is pulled.
#[derive(Debug, Default)]
pub(super) struct Recv {
    chunks: VecDeque<Bytes>,
    len: usize,
    fin: bool,
    reset: Option<Code>,
    /// The buffer was full, or what it is for is not known yet: QUIC keeps the rest.
    held: bool,
}

impl Recv {
    /// Appends. `false` if the sender of these bytes ignores the limit.
    pub(super) fn push(&mut self, bytes: Bytes, fin: bool, limit: usize) -> bool {
        if self.fin || self.reset.is_some() {
            return true;
        }
        self.fin = fin;
        self.len += bytes.len();
        if !bytes.is_empty() {
            self.chunks.push_back(bytes);
        }
        if self.len >= limit {
            self.held = true;
        }
        self.len <= limit.saturating_add(ONE_READ)
    }

    /// The peer gave up. If everything came before, that says nothing.
    pub(super) fn reset_by_peer(&mut self, code: Code) {
        if !self.fin {
            self.abandon(code);
        }
    }

    /// What was not decoded is void, and nothing more counts.
    pub(super) fn abandon(&mut self, code: Code) {
        self.discard();
        self.reset.get_or_insert(code);
    }

    pub(super) fn discard(&mut self) {
        self.chunks.clear();
        self.len = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The peer's FIN came and everything before it was decoded.
    pub(super) fn is_finished(&self) -> bool {
        self.fin && self.len == 0 && self.reset.is_none()
    }

    /// The FIN came, maybe behind bytes that wait.
    pub(super) fn has_fin(&self) -> bool {
        self.fin
    }

    pub(super) fn reset(&self) -> Option<Code> {
        self.reset
    }

    /// Nothing more will come.
    pub(super) fn is_over(&self) -> bool {
        self.fin || self.reset.is_some()
    }

    pub(super) fn read_limit(&self, limit: usize) -> usize {
        if self.held { 0 } else { limit.saturating_sub(self.len) }
    }

    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// Whether the stream is to be read on from now, after it was held: there is room again, or what
    /// is there is not enough to go on (`starved`).
    pub(super) fn release(&mut self, limit: usize, starved: bool) -> bool {
        let release = self.held && (starved || self.len <= limit / 2);
        if release {
            self.held = false;
        }
        release && !self.is_over()
    }

    /// The first bytes, as many as there are and fit.
    pub(super) fn peek<'a>(&self, into: &'a mut [u8]) -> &'a [u8] {
        let mut filled = 0;
        for chunk in &self.chunks {
            let n = chunk.len().min(into.len() - filled);
            into[filled..filled + n].copy_from_slice(&chunk[..n]);
            filled += n;
            if filled == into.len() {
                break;
            }
        }
        &into[..filled]
    }

    pub(super) fn skip(&mut self, mut n: usize) {
        debug_assert!(n <= self.len);
        self.len -= n;
        while n > 0 {
            let Some(front) = self.chunks.front_mut() else { return };
            let step = n.min(front.len());
            front.advance(step);
            n -= step;
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
    }

    /// The first `n` bytes, which are there, in one piece.
    pub(super) fn take(&mut self, n: usize) -> Bytes {
        debug_assert!(n <= self.len);
        match self.chunks.front() {
            Some(front) if front.len() >= n => self.take_some(n),
            _ => {
                let mut whole = BytesMut::with_capacity(n);
                while whole.len() < n {
                    let piece = self.take_some(n - whole.len());
                    whole.extend_from_slice(&piece);
                }
                whole.freeze()
            }
        }
    }

    /// At most `max` bytes, as they lie.
    pub(super) fn take_some(&mut self, max: usize) -> Bytes {
        let Some(front) = self.chunks.front_mut() else { return Bytes::new() };
        let n = max.min(front.len());
        let piece = front.split_to(n);
        if front.is_empty() {
            self.chunks.pop_front();
        }
        self.len -= n;
        piece
    }
}

/// Our half of a stream that carries messages.
#[derive(Debug, Default)]
pub(super) struct Send {
    buffer: BytesMut,
    /// FIN is due behind the buffer.
    fin: bool,
    fin_sent: bool,
    reset: bool,
}

impl Send {
    /// Where messages are encoded to.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    pub(super) fn finish(&mut self) {
        self.fin = true;
    }

    /// Nothing more goes out, and what was not taken yet is void. `false` if it was over before.
    pub(super) fn abandon(&mut self) -> bool {
        let was_open = !self.is_over();
        self.buffer.clear();
        self.reset = true;
        was_open
    }

    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn has_work(&self) -> bool {
        !self.is_over() && (!self.buffer.is_empty() || self.fin)
    }

    /// FIN was taken, or the half was reset.
    pub(super) fn is_over(&self) -> bool {
        self.fin_sent || self.reset
    }

    /// What there is to write, up to `max` bytes, and whether FIN comes behind it.
    pub(super) fn offer(&mut self, max: usize) -> (Bytes, bool) {
        let n = self.buffer.len().min(max);
        (Bytes::copy_from_slice(&self.buffer[..n]), self.fin && n == self.buffer.len())
    }

    pub(super) fn accepted(&mut self, n: usize, fin: bool) {
        self.buffer.advance(n);
        self.fin_sent |= fin;
    }
}

census! { Recv { counts: chunks; plain: len, fin, reset, held; } }
census! { Send { counts: buffer; plain: fin, fin_sent, reset; } }
