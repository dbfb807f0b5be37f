//! Hops: the relays that an announcement came through, which is how loops are seen.

use core::fmt;

use smallvec::SmallVec;

/// The id of an origin or relay, below 2^62. 0 stands for one that did not say who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop(u64);

impl Hop {
    /// A hop that did not say who it is.
    pub const UNKNOWN: Self = Self(0);
    /// The largest id that the wire can carry.
    pub const MAX: Self = Self((1 << 62) - 1);

    /// Cuts `id` to the largest that the wire can carry.
    pub const fn new(id: u64) -> Self {
        if id > Self::MAX.0 { Self::MAX } else { Self(id) }
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Whether it said who it is.
    pub const fn is_known(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The chain of hops of an announcement, its origin first and the nearest sender last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hops(SmallVec<[Hop; 4]>);

/// A chain would be longer than [`Hops::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {} hops", Hops::MAX)]
pub struct TooManyHops;

impl Hops {
    /// The longest chain that the deployed implementations accept.
    pub const MAX: usize = 32;

    /// An announcement that went through nobody yet.
    pub const fn new() -> Self {
        Self(SmallVec::new_const())
    }

    /// Appends the hop that sends next.
    pub fn push(&mut self, hop: Hop) -> Result<(), TooManyHops> {
        if self.0.len() >= Self::MAX {
            return Err(TooManyHops);
        }
        self.0.push(hop);
        Ok(())
    }

    /// Whether a known `hop` is in the chain; an unknown one never is.
    pub fn contains(&self, hop: Hop) -> bool {
        hop.is_known() && self.0.contains(&hop)
    }

    /// The hops from the origin to the nearest sender.
    pub fn as_slice(&self) -> &[Hop] {
        &self.0
    }

    /// How many hops.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it went through nobody yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether some known hop is there twice, which only a loop can do.
    pub fn has_loop(&self) -> bool {
        self.0.iter().enumerate().any(|(i, hop)| hop.is_known() && self.0[..i].contains(hop))
    }
}

impl FromIterator<Hop> for Hops {
    /// Keeps the first [`Hops::MAX`].
    fn from_iter<I: IntoIterator<Item = Hop>>(hops: I) -> Self {
        Self(hops.into_iter().take(Self::MAX).collect())
    }
}

/// What a route costs (moq-lite 06+), added up link by link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost {
    /// When the content flows there already.
    pub warm: u64,
    /// When it does not flow yet.
    pub cold: u64,
}

impl Cost {
    /// The largest cost that the wire can carry: a route that is being drained.
    pub const MAX: u64 = (1 << 62) - 1;

    /// Of a route whose session is about to end: whatever else there is goes first.
    pub const DRAINED: Self = Self { warm: Self::MAX, cold: Self::MAX };

    /// What a route counts as whose version can't say: free when the content flows there already, and
    /// the last choice otherwise.
    pub const UNKNOWN: Self = Self { warm: 0, cold: Self::MAX };

    /// This and one more link.
    #[must_use]
    pub const fn add(self, link: u64) -> Self {
        Self {
            warm: Self::cut(self.warm.saturating_add(link)),
            cold: Self::cut(self.cold.saturating_add(link)),
        }
    }

    const fn cut(cost: u64) -> u64 {
        if cost > Self::MAX { Self::MAX } else { cost }
    }
}
