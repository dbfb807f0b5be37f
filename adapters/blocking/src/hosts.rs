//! Hosts that are being dialed, by several addresses and carriers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use smoq::Client;
use smoq_quic::Race;

use crate::dial_config::Dialer;
use crate::error::DialError;
use crate::event::ConnectionId;

/// All hosts that are being dialed.
#[derive(Default)]
pub(crate) struct Hosts {
    pub(crate) hosts: BTreeMap<ConnectionId, Host>,
    /// When the next address of a host is due.
    pub(crate) timers: BTreeSet<(Instant, ConnectionId)>,
    /// The attempts that reached their hosts, which have the connections.
    pub(crate) reached: BTreeMap<ConnectionId, ConnectionId>,
}

/// A host whose addresses are being dialed.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) client: Client,
    /// The preferred carrier comes first.
    pub(crate) carriers: Vec<Carrier>,
    pub(crate) attempts: Vec<ConnectionId>,
    pub(crate) timer: Option<Instant>,
}

/// A way to dial a host.
pub(crate) struct Carrier {
    pub(crate) dialer: Dialer,
    /// When it begins, unless those before it have failed.
    pub(crate) begins: Instant,
    pub(crate) race: Race<DialError>,
}

/// One of several attempts to reach a host.
#[derive(Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) host: ConnectionId,
    /// The index of the carrier.
    pub(crate) carrier: usize,
    pub(crate) address: SocketAddr,
}

impl Hosts {
    /// When the next address is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub(crate) fn take(&mut self, id: ConnectionId) -> Option<Host> {
        let host = self.hosts.remove(&id)?;
        host.timer.map(|at| self.timers.remove(&(at, id)));
        Some(host)
    }
}
