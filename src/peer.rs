//! How a peer describes itself in its SETUP.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::auth_token::AuthToken;
use crate::hop::Hop;

/// How a peer describes itself in its SETUP. The default describes nothing, as does every peer of moq-lite
/// 01 to 04, which have no such message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The path of the URL that the client dialed, with its query, unchanged (moq-lite 05+, SETUP 2;
    /// moq-transport, PATH).
    pub path: Box<str>,
    /// Host and port of the URL that the client dialed (moq-transport, AUTHORITY).
    pub authority: Box<str>,
    /// The authorization tokens of its SETUP (moq-transport).
    pub tokens: Vec<AuthToken>,
    /// Which directions the client uses (moq-lite 05+, SETUP 3).
    pub role: Role,
    /// The peer's id in announcements (moq-lite 05+, SETUP 5).
    pub hop: Hop,
    /// The cost of the link, if the client that dialed it sent one (moq-lite 05+, SETUP 4).
    pub cost: Option<u64>,
}

/// Which directions of a session a client uses. It is a hint that lets a server refuse a pointless session
/// early, and is not enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Both, or the client did not say.
    #[default]
    Both,
    /// It only publishes.
    Publisher,
    /// It only subscribes.
    Subscriber,
}

impl Role {
    /// Whether it may publish.
    pub const fn publishes(self) -> bool {
        !matches!(self, Self::Subscriber)
    }

    /// Whether it may subscribe.
    pub const fn subscribes(self) -> bool {
        !matches!(self, Self::Publisher)
    }

    /// The number on the wire. 0, which is not sent, stands for both (moq-lite, *SETUP*).
    pub(crate) const fn as_u64(self) -> u64 {
        self as u64
    }

    /// The role with this number. An unknown number stands for both.
    pub(crate) const fn from_u64(number: u64) -> Self {
        match number {
            1 => Self::Publisher,
            2 => Self::Subscriber,
            _ => Self::Both,
        }
    }
}
