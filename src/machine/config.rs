//! The configuration of one [`Machine`](super::Machine).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::auth_token::AuthToken;
use crate::hop::Hop;
use crate::limits::Limits;
use crate::path::Path;
use crate::peer::Role;
use crate::stream::Side;
use crate::version::Agreed;

/// Everything that a machine needs to know when its session begins.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Which end of the connection this is.
    pub side: Side,
    /// The versions that remain after ALPN.
    pub agreed: Agreed,
    /// Our Hop ID in announcements; unknown by default. All sessions of one origin should use the
    /// same one, because announcement loops are detected by it.
    pub hop: Hop,
    /// The path of the URL that a client dialed. It is sent in SETUP where the version has a place for
    /// it. The root, the default, is not sent.
    pub path: Path,
    /// Host and port of the URL that a client dialed. Sent where the version has a place for it
    /// (moq-transport, AUTHORITY). Empty, the default, is not sent.
    pub authority: Box<str>,
    /// Whether a server knows path and authority from the request of WebTransport. Then a client that sends them in SETUP
    /// of moq-transport as well breaks a rule. Default: no.
    pub web_transport: bool,
    /// Authorization tokens, which are sent where the version has a place for them (moq-transport, SETUP). Default:
    /// none.
    pub tokens: Vec<AuthToken>,
    /// Whether a client publishes, subscribes or both. Sent in SETUP of moq-lite.
    pub role: Role,
    /// The cost of this link. It is added to the cost of the announcements that arrive here, and a
    /// client sends it in SETUP of moq-lite. `None`, the default, means the cost that the peer sends,
    /// or else 1.
    pub cost: Option<u64>,
    /// Whether a server waits for the application to accept the peer: [`Event::SetUp`] reports the
    /// peer's set-up, and nothing else of the peer is decoded and nothing is sent to it before
    /// [`Command::Accept`]. [`Limits::handshake_timeout`] keeps running until then. Other commands must
    /// follow `Accept`.
    ///
    /// [`Event::SetUp`]: super::Event::SetUp
    /// [`Command::Accept`]: super::Command::Accept
    pub requires_accept: bool,
    /// Whether [`Event::Subgroup`] reports every subgroup, with gaps, and [`Event::Datagram`] every object in a datagram.
    /// Otherwise, by default, [`Event::Group`] reports subgroups 0, a gap breaks a group, other subgroups are stopped,
    /// and only the first object of a group may come in a datagram (moq-transport).
    ///
    /// [`Event::Datagram`]: super::Event::Datagram
    /// [`Event::Subgroup`]: super::Event::Subgroup
    /// [`Event::Group`]: super::Event::Group
    pub subgroups: bool,
    /// The prefixes under which we ask the peer for announcements.
    pub interests: Vec<Path>,
    /// The limits that this session enforces.
    pub limits: Limits,
}

impl Config {
    /// The defaults: no announcements are asked for.
    pub fn new(side: Side, agreed: impl Into<Agreed>) -> Self {
        Self {
            side,
            agreed: agreed.into(),
            hop: Hop::UNKNOWN,
            path: Path::root(),
            authority: "".into(),
            web_transport: false,
            tokens: Vec::new(),
            role: Role::Both,
            cost: None,
            requires_accept: false,
            subgroups: false,
            interests: Vec::new(),
            limits: Limits::default(),
        }
    }
}
