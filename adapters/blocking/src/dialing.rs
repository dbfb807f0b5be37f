//! Dialing a host that has several addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use quinn_proto::{ClientConfig, ConnectError, ConnectionError};
use smoq::Client;
use smoq_quic::Race;

use crate::Endpoint;
use crate::connection::{ConnectionId, Event, Role};
use crate::endpoint::clock;

/// Why there is no connection to one address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The address is an IPv6 one, and the endpoint is bound to an IPv4 address.
    #[error("the socket is for IPv4 only")]
    Family,
    /// QUIC can't dial this address or this name.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// The handshake failed, or nobody answered.
    #[error("{0}")]
    Connection(#[from] ConnectionError),
}

/// No address of a host could be reached: which were tried, and why each failed.
pub type Unreachable = smoq_quic::Unreachable<DialError>;

/// The hosts that are being dialed.
#[derive(Default)]
pub(crate) struct Hosts {
    hosts: BTreeMap<ConnectionId, Host>,
    /// When the next address of a host is due.
    timers: BTreeSet<(Instant, ConnectionId)>,
    /// Where the connections to those are that were reached.
    pub(crate) reached: BTreeMap<ConnectionId, usize>,
}

struct Host {
    name: String,
    config: ClientConfig,
    client: Client,
    race: Race<DialError>,
    attempts: Vec<usize>,
    timer: Option<Instant>,
}

impl Hosts {
    /// When the next address is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn take(&mut self, id: ConnectionId) -> Option<Host> {
        let host = self.hosts.remove(&id)?;
        host.timer.map(|at| self.timers.remove(&(at, id)));
        Some(host)
    }
}

impl Endpoint {
    /// Dials `name` by one of its addresses `remotes`, in the way of RFC 8305 ("Happy Eyeballs").
    ///
    /// IPv6 and IPv4 take turns, IPv6 first. An address that does not answer within
    /// [250 ms](smoq_quic::ATTEMPT_DELAY) is joined by the next one, and one that fails is followed by it at
    /// once; the first handshake that completes wins, and the others are closed. `name` is the name that the
    /// server's certificate must be for. An endpoint that dials both families is bound to `[::]`; one on an
    /// IPv4 address passes over IPv6.
    ///
    /// What becomes of it is told by [`poll_event`](Self::poll_event): [`Event::Connected`] once, or
    /// [`Event::Unreachable`] with what was tried. [`cancel`](Self::cancel) ends it before.
    pub fn dial_any(
        &mut self,
        remotes: impl IntoIterator<Item = SocketAddr>,
        name: &str,
        config: ClientConfig,
        client: &Client,
    ) -> ConnectionId {
        self.serial += 1;
        // Its place is known when an attempt has won.
        let id = ConnectionId { slot: usize::MAX, serial: self.serial };
        let (name, client) = (name.to_owned(), client.clone());
        let (race, attempts, timer) = (Race::new(remotes), Vec::new(), None);
        self.attempt_next(clock(), id, Host { name, config, client, race, attempts, timer });
        id
    }

    /// Gives up a connection that was dialed and is not connected yet. There will be no event of it.
    ///
    /// One that is connected is ended by its [`Session`](smoq::Session), and stays as it is here.
    pub fn cancel(&mut self, id: ConnectionId) {
        let attempts = match self.hosts.take(id) {
            Some(host) => host.attempts,
            None => self.slot(id).into_iter().collect(),
        };
        attempts.into_iter().for_each(|slot| self.give_up(clock(), slot));
    }

    fn give_up(&mut self, now: Instant, slot: usize) {
        if let Some(connection) = &mut self.connections[slot] {
            if connection.is_dialing() {
                connection.give_up(now);
                self.queue(slot);
            }
        }
    }

    /// Dials the addresses that are due.
    pub(crate) fn attempt_due(&mut self, now: Instant) {
        while let Some((at, id)) = self.hosts.timers.first().copied() {
            if at > now {
                break;
            }
            if let Some(host) = self.hosts.take(id) {
                self.attempt_next(now, id, host);
            }
        }
    }

    fn attempt_next(&mut self, now: Instant, id: ConnectionId, mut host: Host) {
        while let Some(address) = host.race.poll(now) {
            let role = Role::Client(host.client.clone());
            match self.begin(now, address, &host.name, host.config.clone(), role) {
                Ok(slot) => {
                    if let Some(connection) = &mut self.connections[slot] {
                        connection.attempt = Some((id, address));
                    }
                    host.attempts.push(slot);
                }
                Err(error) => host.race.failed(address, error),
            }
        }
        if host.race.is_lost() {
            let error = host.race.into_error(&host.name);
            self.events.push_back(Event::Unreachable { id, error });
            return;
        }
        host.timer = host.race.poll_timeout();
        host.timer.map(|at| self.hosts.timers.insert((at, id)));
        self.hosts.hosts.insert(id, host);
    }

    /// What the connection in `slot` said, which was an attempt to reach the host `id` by `address`.
    pub(crate) fn attempted(
        &mut self,
        now: Instant,
        slot: usize,
        (id, address): (ConnectionId, SocketAddr),
        event: Event,
    ) {
        let event = match event {
            Event::Connected { session, version, remote, .. } => {
                if let Some(connection) = &mut self.connections[slot] {
                    connection.win(id);
                    self.hosts.reached.insert(id, slot);
                }
                let others = self.hosts.take(id).map(|host| host.attempts).unwrap_or_default();
                for other in others.into_iter().filter(|other| *other != slot) {
                    self.give_up(now, other);
                }
                Event::Connected { id, session, version, remote }
            }
            Event::Failed { error, .. } => {
                if let Some(connection) = &mut self.connections[slot] {
                    connection.attempt = None;
                }
                if let Some(mut host) = self.hosts.take(id) {
                    host.attempts.retain(|attempt| *attempt != slot);
                    host.race.failed(address, error.into());
                    self.attempt_next(now, id, host);
                }
                return;
            }
            // At once after `Connected`.
            Event::Closed { error, .. } => Event::Closed { id, error },
            other => other,
        };
        self.events.push_back(event);
    }
}
