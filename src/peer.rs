//! What a peer says of itself when it sets up, before anything else.

use alloc::boxed::Box;

use crate::hop::Hop;

/// What a peer says of itself when it sets up. The default is one that says nothing, which is all that a
/// peer of moq-lite 01 to 04 can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// What a client dialed: the path of the URL and its query, as they came (moq-lite 05+, SETUP 2;
    /// moq-transport, PATH).
    pub path: Box<str>,
    /// Host and port of the URL that a client dialed (moq-transport, AUTHORITY).
    pub authority: Box<str>,
    /// What a client is there for (moq-lite 05+, SETUP 3).
    pub role: Role,
    /// Who it is in announcements (moq-lite 05+, SETUP 5).
    pub hop: Hop,
    /// What the link costs, if the client that dialed it says so (moq-lite 05+, SETUP 4).
    pub cost: Option<u64>,
}

/// Which directions of a session a client uses. It is a hint, with which a server can refuse early what
/// would lead to nothing; nobody is held to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Both, or it does not say.
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

    /// The number on the wire; 0, which is not sent, for both (moq-lite, *SETUP*).
    pub(crate) const fn as_u64(self) -> u64 {
        self as u64
    }

    /// What a number on the wire means: both, where it has no name.
    pub(crate) const fn from_u64(number: u64) -> Self {
        match number {
            1 => Self::Publisher,
            2 => Self::Subscriber,
            _ => Self::Both,
        }
    }
}
