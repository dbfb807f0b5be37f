//! Dialing a host that has several addresses.

use std::net::SocketAddr;
use std::time::Instant;

use quinn_proto::ClientConfig;
use smoq::Client;
use smoq_quic::Race;

use crate::connection::Role;
use crate::endpoint::{Endpoint, clock};
use crate::event::{ConnectionId, Event};
use crate::hosts::Host;

impl Endpoint {
    /// Dials `name` at all of its addresses `remotes`, as RFC 8305 ("Happy Eyeballs") recommends.
    ///
    /// IPv6 and IPv4 alternate, IPv6 first. The next address is dialed when the last one failed, or has not
    /// answered within [250 ms](smoq_quic::ATTEMPT_DELAY). The first handshake that completes wins, and the
    /// others are closed. The server's certificate must be for `name`. An endpoint that dials both families
    /// is bound to `[::]`; one that is bound to an IPv4 address skips IPv6.
    ///
    /// [`poll_event`](Self::poll_event) reports one [`Event::Connected`] or
    /// [`Event::Unreachable`]. [`cancel`](Self::cancel) gives up before that.
    pub fn dial_any(
        &mut self,
        remotes: impl IntoIterator<Item = SocketAddr>,
        name: &str,
        config: ClientConfig,
        client: &Client,
    ) -> ConnectionId {
        let id = self.next_host();
        self.dial_host(clock(), id, remotes, name, config, client);
        id
    }

    /// An id for a host. The place of its connection is known when an attempt has won.
    pub(crate) fn next_host(&mut self) -> ConnectionId {
        self.serial += 1;
        ConnectionId { slot: usize::MAX, serial: self.serial }
    }

    pub(crate) fn dial_host(
        &mut self,
        now: Instant,
        id: ConnectionId,
        remotes: impl IntoIterator<Item = SocketAddr>,
        name: &str,
        config: ClientConfig,
        client: &Client,
    ) {
        let (name, client) = (name.to_owned(), client.clone());
        let (race, attempts, timer) = (Race::new(remotes), Vec::new(), None);
        self.attempt_next(now, id, Host { name, config, client, race, attempts, timer });
    }

    /// Gives up a connection that was dialed and is not connected yet. It is not reported any more.
    ///
    /// A connection that is established is not affected: close its [`Session`](smoq::Session) instead.
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
            return self.report(now, Event::Unreachable { id, error });
        }
        host.timer = host.race.poll_timeout();
        host.timer.map(|at| self.hosts.timers.insert((at, id)));
        self.hosts.hosts.insert(id, host);
    }

    /// Handles an event of the connection in `slot`, which is an attempt to reach the host `id` at `address`.
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
                    host.race.failed(address, error);
                    self.attempt_next(now, id, host);
                }
                return;
            }
            // It ended right after `Connected`.
            Event::Closed { reason, .. } => Event::Closed { id, reason },
            other => other,
        };
        self.report(now, event);
    }
}
