//! Hops: the origins and relays that an announcement passed through. They make loops visible.

use core::fmt;

use smallvec::SmallVec;

/// The id of an origin or relay, below 2^62. 0 is an unknown hop, which did not identify itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop(u64);

impl Hop {
    /// A hop that did not identify itself.
    pub const UNKNOWN: Self = Self(0);
    /// The largest id that the wire can carry.
    pub const MAX: Self = Self((1 << 62) - 1);

    /// A hop with this id, clamped to [`Hop::MAX`].
    pub const fn new(id: u64) -> Self {
        if id > Self::MAX.0 { Self::MAX } else { Self(id) }
    }

    /// The number on the wire.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Whether the hop identified itself.
    pub const fn is_known(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The chain of hops of an announcement: its origin first, the nearest sender last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hops(SmallVec<[Hop; 4]>);

/// The chain would be longer than [`Hops::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {} hops", Hops::MAX)]
pub struct TooManyHops;

impl Hops {
    /// The longest chain that deployed implementations accept.
    pub const MAX: usize = 32;

    /// An empty chain, for an announcement that has not passed any hop.
    pub const fn new() -> Self {
        Self(SmallVec::new_const())
    }

    /// Appends the next hop.
    ///
    /// # Errors
    ///
    /// [`TooManyHops`] if the chain has [`Hops::MAX`] hops already. The chain is unchanged.
    pub fn push(&mut self, hop: Hop) -> Result<(), TooManyHops> {
        if self.0.len() >= Self::MAX {
            return Err(TooManyHops);
        }
        self.0.push(hop);
        Ok(())
    }

    /// Whether the chain contains `hop`. It never contains an unknown one.
    pub fn contains(&self, hop: Hop) -> bool {
        hop.is_known() && self.0.contains(&hop)
    }

    /// The hops from the origin to the nearest sender.
    pub fn as_slice(&self) -> &[Hop] {
        &self.0
    }

    /// The number of hops.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no hops.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a known hop occurs twice, which only happens in a loop.
    pub fn has_loop(&self) -> bool {
        self.0.iter().enumerate().any(|(i, hop)| hop.is_known() && self.0[..i].contains(hop))
    }
}

impl FromIterator<Hop> for Hops {
    /// Keeps the first [`Hops::MAX`] hops.
    fn from_iter<I: IntoIterator<Item = Hop>>(hops: I) -> Self {
        Self(hops.into_iter().take(Self::MAX).collect())
    }
}

/// The cost of a route (moq-lite 06+): the sum over its links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost {
    /// The cost if the content already flows along the route.
    pub warm: u64,
    /// The cost if it does not flow yet.
    pub cold: u64,
}

impl Cost {
    /// The largest cost that the wire can carry, which marks a route that is being drained.
    pub const MAX: u64 = (1 << 62) - 1;

    /// The cost of a route whose session is about to end. Every other route is preferred.
    pub const DRAINED: Self = Self { warm: Self::MAX, cold: Self::MAX };

    /// The cost assumed for versions that do not carry one: free if the content already flows, and the last
    /// choice otherwise.
    pub const UNKNOWN: Self = Self { warm: 0, cold: Self::MAX };

    /// The cost with one more link, clamped to [`Cost::MAX`].
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
