//! Dialing a host that has several addresses, by one or several carriers.

use std::net::SocketAddr;
use std::time::Instant;

use smoq::Client;
use smoq_quic::{Race, Unreachable};

use crate::connection::Settings;
use crate::dial_config::{DialConfig, Dialer, HEAD_START};
use crate::endpoint::{Endpoint, clock};
use crate::error::DialError;
use crate::event::{ConnectionId, Event};
use crate::hosts::{Attempt, Carrier, Host};

impl Endpoint {
    /// Dials `name` at all of its addresses `remotes`, as RFC 8305 ("Happy Eyeballs") recommends.
    ///
    /// IPv6 and IPv4 alternate, IPv6 first. The next address is dialed when the last one failed, or has not
    /// answered within [250 ms](smoq_quic::ATTEMPT_DELAY). The first handshake that completes wins, and the
    /// others are closed. The server's certificate must be for `name`. To dial both families by QUIC, bind the endpoint
    /// to `[::]`; one that is bound to an IPv4 address skips IPv6. A WebSocket has a socket of its own.
    ///
    /// If `config` has several carriers, each is tried at all addresses.
    ///
    /// [`poll_event`](Self::poll_event) reports one [`Event::Connected`] or
    /// [`Event::Unreachable`]. [`cancel`](Self::cancel) gives up before that.
    pub fn dial_any(
        &mut self,
        remotes: impl IntoIterator<Item = SocketAddr>,
        name: &str,
        config: impl Into<DialConfig>,
        client: &Client,
    ) -> ConnectionId {
        let id = self.next_host();
        self.dial_host(clock(), id, remotes.into_iter().collect(), name, config.into(), client);
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
        remotes: Vec<SocketAddr>,
        name: &str,
        DialConfig(dialers): DialConfig,
        client: &Client,
    ) {
        let carriers = dialers.into_iter().zip(0..).map(|(dialer, n)| {
            let race = Race::new(remotes.iter().copied());
            Carrier { dialer, begins: now + n * HEAD_START, race }
        });
        let (carriers, attempts, timer) = (carriers.collect(), Vec::new(), None);
        let (name, client) = (name.to_owned(), client.clone());
        self.attempt_next(now, id, Host { name, client, carriers, attempts, timer });
    }

    /// Gives up a connection that was dialed and is not connected yet. It is not reported any more.
    ///
    /// A connection that is established is not affected: close its [`Session`](smoq::Session) instead.
    pub fn cancel(&mut self, id: ConnectionId) {
        let attempts = self.hosts.take(id).map_or(vec![id], |host| host.attempts);
        attempts.into_iter().for_each(|attempt| self.give_up(clock(), attempt));
    }

    fn give_up(&mut self, now: Instant, attempt: ConnectionId) {
        #[cfg(feature = "websocket")]
        self.give_up_web_socket(attempt);
        let Some(slot) = self.slot(attempt) else { return };
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
        let Host { name, client, carriers, attempts, timer } = &mut host;
        let mut is_lost = true;
        *timer = None;
        for (n, Carrier { dialer, begins, race }) in carriers.iter_mut().enumerate() {
            if *begins > now && !is_lost {
                *timer = (*timer).into_iter().chain([*begins]).min();
                break;
            }
            *begins = now.min(*begins);
            while let Some(address) = race.poll(now) {
                let attempt = Attempt { host: id, carrier: n, address };
                let dialed = match dialer {
                    Dialer::Quic(config) => {
                        let settings = Settings::Client(client.clone());
                        let place = self.begin(now, address, name, config.clone(), settings);
                        place.inspect(|place| {
                            if let Some(connection) = &mut self.connections[place.slot] {
                                connection.attempt = Some(attempt);
                            }
                        })
                    }
                    #[cfg(feature = "websocket")]
                    Dialer::WebSocket(tls) => {
                        self.dial_web_socket(now, attempt, name, tls.as_ref(), client)
                    }
                };
                match dialed {
                    Ok(place) => attempts.push(place),
                    Err(error) => race.failed(address, error),
                }
            }
            *timer = (*timer).into_iter().chain(race.poll_timeout()).min();
            is_lost &= race.is_lost();
        }
        if is_lost {
            let Host { name, carriers, .. } = host;
            let errors = carriers.into_iter().flat_map(|it| it.race.into_error(&name).tried);
            let tried = errors.collect();
            let error = Unreachable { host: name, tried };
            return self.report(now, Event::Unreachable { id, error });
        }
        host.timer.map(|at| self.hosts.timers.insert((at, id)));
        self.hosts.hosts.insert(id, host);
    }

    /// An attempt has led to a session at `place`: gives up the others.
    pub(crate) fn reached(&mut self, now: Instant, host: ConnectionId, place: ConnectionId) {
        self.hosts.reached.insert(host, place);
        let others = self.hosts.take(host).map(|host| host.attempts).unwrap_or_default();
        for other in others.into_iter().filter(|other| *other != place) {
            self.give_up(now, other);
        }
    }

    /// An attempt at `place` has failed: goes on with the next address.
    pub(crate) fn failed(
        &mut self,
        now: Instant,
        attempt: Attempt,
        place: ConnectionId,
        error: DialError,
    ) {
        if let Some(mut host) = self.hosts.take(attempt.host) {
            host.attempts.retain(|other| *other != place);
            host.carriers[attempt.carrier].race.failed(attempt.address, error);
            self.attempt_next(now, attempt.host, host);
        }
    }

    /// Handles an event of the connection in `slot`, which is an attempt to reach a host.
    pub(crate) fn attempted(&mut self, now: Instant, slot: usize, attempt: Attempt, event: Event) {
        let host = attempt.host;
        let event = match event {
            Event::Connected { id: place, session, version, remote } => {
                if let Some(connection) = &mut self.connections[slot] {
                    connection.win(host);
                }
                self.reached(now, host, place);
                Event::Connected { id: host, session, version, remote }
            }
            Event::Failed { id: place, error } => {
                if let Some(connection) = &mut self.connections[slot] {
                    connection.attempt = None;
                }
                return self.failed(now, attempt, place, error);
            }
            // It ended right after `Connected`.
            Event::Closed { reason, .. } => Event::Closed { id: host, reason },
            other => other,
        };
        self.report(now, event);
    }
}
