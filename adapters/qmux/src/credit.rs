//! Flow control, of bytes and of streams (RFC 9000, section 4).

/// The credit of this side: so much of a limit is used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Credit {
    pub(crate) used: u64,
    pub(crate) limit: u64,
}

impl Credit {
    pub(crate) const fn new(limit: u64) -> Self {
        Self { used: 0, limit }
    }

    pub(crate) const fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// Limits never shrink.
    pub(crate) fn raise(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }
}

/// The credit of the peer: a window after that which is done with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    window: u64,
    limit: u64,
    pub(crate) received: u64,
    done: u64,
}

impl Allowance {
    pub(crate) const fn new(window: u64) -> Self {
        Self { window, limit: window, received: 0, done: 0 }
    }

    /// Whether the peer was allowed to send so much more.
    #[must_use]
    pub(crate) fn receive(&mut self, more: u64) -> bool {
        self.received = self.received.saturating_add(more);
        self.received <= self.limit
    }

    /// So much more needs no memory any longer. Returns a new limit for the peer when half of the window is used.
    pub(crate) fn release(&mut self, more: u64) -> Option<u64> {
        self.done += more;
        if self.limit - self.done > self.window / 2 {
            return None;
        }
        self.limit = self.done + self.window;
        Some(self.limit)
    }
}
