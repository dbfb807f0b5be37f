//! Hosts that are being dialed by several addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use quinn_proto::ClientConfig;
use smoq::Client;
use smoq_quic::Race;

use crate::error::DialError;
use crate::event::ConnectionId;

/// All hosts that are being dialed.
#[derive(Default)]
pub(crate) struct Hosts {
    pub(crate) hosts: BTreeMap<ConnectionId, Host>,
    /// When the next address of a host is due.
    pub(crate) timers: BTreeSet<(Instant, ConnectionId)>,
    /// The slots of the connections to hosts that were reached.
    pub(crate) reached: BTreeMap<ConnectionId, usize>,
}

/// A host whose addresses are being dialed.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) config: ClientConfig,
    pub(crate) client: Client,
    pub(crate) race: Race<DialError>,
    pub(crate) attempts: Vec<usize>,
    pub(crate) timer: Option<Instant>,
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
