//! Clients that dial again, as part of the endpoint's steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use smoq::{Client, Error, LimitKind, Session};
use smoq_quic::{MAX_LEAVING, Redial, Redialing, Url};

use crate::dial_config::DialConfig;
use crate::endpoint::{Endpoint, LINK, clock};
use crate::event::{ConnectionId, Event, ReconnectId};

/// Why a URL could not be dialed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

type Prepare = dyn FnMut(&Url) -> Result<(Vec<SocketAddr>, DialConfig), BoxError> + Send;

/// All clients that dial again.
#[derive(Default)]
pub(crate) struct Links {
    links: BTreeMap<ReconnectId, Link>,
    by_connection: BTreeMap<ConnectionId, ReconnectId>,
    timers: BTreeSet<(Instant, ReconnectId)>,
    last: u64,
}

/// A client that dials again. It has an attempt or a session, and sessions that are leaving.
struct Link {
    redial: Redial,
    client: Client,
    prepare: Box<Prepare>,
    attempt: Option<ConnectionId>,
    current: Option<(ConnectionId, Session)>,
    /// The sessions whose peers sent GOAWAY, the oldest first.
    leaving: VecDeque<(ConnectionId, Session)>,
    timer: Option<Instant>,
    /// Tells of GOAWAY.
    waker: Waker,
}

impl Links {
    /// When the next attempt is due, or another deadline of a client.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn take(&mut self, id: ReconnectId) -> Option<Link> {
        let link = self.links.remove(&id)?;
        link.timer.map(|at| self.timers.remove(&(at, id)));
        Some(link)
    }

    fn put(&mut self, id: ReconnectId, mut link: Link) {
        link.timer = link.redial.poll_timeout();
        link.timer.map(|at| self.timers.insert((at, id)));
        self.links.insert(id, link);
    }
}

impl Endpoint {
    /// Keeps a client connected: dials, and dials again when the session ends or the peer sends GOAWAY. `redial` decides
    /// where and when. All of it happens in [`step`](Self::step), and nothing waits.
    ///
    /// `prepare` is called before each attempt, with the URL. It returns the addresses of the host, and the
    /// [`DialConfig`] for the URL. To resolve a name there blocks the step: a program that must not wait resolves names in a
    /// thread, and returns an error while it does not know the answer, which counts as a failed attempt.
    ///
    /// [`poll_event`](Self::poll_event) reports [`Event::Dialing`] with the id of each connection, then the same events as
    /// for any other connection, and [`Event::Waiting`] before each pause. [`stop`](Self::stop) ends it.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::net::{Ipv4Addr, ToSocketAddrs};
    /// use std::time::Duration;
    ///
    /// use smoq_blocking::{Budget, DialConfig, Endpoint, Event, smoq_quic::{Redial, Trust, Url}};
    ///
    /// let received = smoq::Origin::default().produce();
    /// let client = smoq::Client::new().with_consume(received.clone());
    /// let redial = Redial::<Url>::new("moqt://a.example".parse()?).or("moqt://b.example".parse()?);
    /// let mut net = Endpoint::new((Ipv4Addr::UNSPECIFIED, 0).into())?;
    /// let versions = client.versions().clone();
    /// net.reconnect(redial, &client, move |url| {
    ///     let addresses = (url.host(), url.port()).to_socket_addrs()?.collect();
    ///     Ok((addresses, DialConfig::for_url(url, &Trust::WebRoots, &versions)?))
    /// });
    /// loop {
    ///     net.step(Budget::time(Duration::from_micros(500)))?;
    ///     while let Some(event) = net.poll_event() {
    ///         match event {
    ///             Event::Connected { remote, .. } => println!("connected to {remote}"),
    ///             Event::Waiting { url, pause, .. } => println!("dialing {url} in {pause:?}"),
    ///             _ => {}
    ///         }
    ///     }
    ///     // The rest of the tick. Readers of `received` go on from session to session.
    /// }
    /// # }
    /// ```
    pub fn reconnect<C: Into<DialConfig>>(
        &mut self,
        redial: Redial,
        client: &Client,
        mut prepare: impl FnMut(&Url) -> Result<(Vec<SocketAddr>, C), BoxError> + Send + 'static,
    ) -> ReconnectId {
        self.links.last += 1;
        let id = ReconnectId(self.links.last);
        let (client, waker) = (redial.client(client), self.waker_for(LINK | id.0));
        let (attempt, current, leaving, timer) = Default::default();
        let prepare = Box::new(move |url: &Url| {
            prepare(url).map(|(remotes, config)| (remotes, config.into()))
        });
        let link = Link { redial, client, prepare, attempt, current, leaving, timer, waker };
        self.links.links.insert(id, link);
        self.dial_again(clock(), id);
        id
    }

    /// Dials no more, and gives up an attempt. A session that runs goes on; end it by its [`Session`] handle. Readers of a
    /// session that was lost wait no longer. Nothing happens if it was stopped before.
    pub fn stop(&mut self, id: ReconnectId) {
        let Some(mut link) = self.links.take(id) else { return };
        link.redial.release();
        self.links.by_connection.retain(|_, of| *of != id);
        if let Some(attempt) = link.attempt {
            self.cancel(attempt);
        }
    }

    /// Does what is due for clients that dial again: one attempt each, because the application resolves a name for it.
    pub(crate) fn links_due(&mut self, now: Instant) {
        let due: Vec<_> =
            self.links.timers.iter().take_while(|(at, _)| *at <= now).copied().collect();
        due.into_iter().for_each(|(_, id)| self.dial_again(now, id));
    }

    fn dial_again(&mut self, now: Instant, id: ReconnectId) {
        let Some(mut link) = self.links.take(id) else { return };
        let error = match link.redial.poll(now) {
            Some(Redialing::Dial(url)) => match (link.prepare)(&url) {
                Ok((remotes, config)) => {
                    let connection = self.next_host();
                    link.attempt = Some(connection);
                    let client = link.client.clone();
                    let client = client.with_path(url.path()).with_authority(url.authority());
                    self.links.by_connection.insert(connection, id);
                    self.links.put(id, link);
                    let name = url.host().to_owned();
                    self.events.push_back(Event::Dialing { reconnect: id, id: connection, url });
                    return self.dial_host(now, connection, remotes, &name, config, &client);
                }
                Err(error) => Some(error),
            },
            Some(_) => {
                if let Some(attempt) = link.attempt.take() {
                    self.links.by_connection.remove(&attempt);
                    self.cancel(attempt);
                }
                None
            }
            None => return self.links.put(id, link),
        };
        let url = link.redial.url().clone();
        let pause = link.redial.failed(now);
        self.links.put(id, link);
        self.events.push_back(Event::Waiting { reconnect: id, url, error, pause });
    }

    /// Reports the events that a connection has pushed to the first `before` ones.
    pub(crate) fn report_since(&mut self, now: Instant, before: usize) {
        if self.events.len() > before {
            self.events.split_off(before).into_iter().for_each(|event| self.report(now, event));
        }
    }

    /// Reports an event, and what it means for a client that dials again.
    pub(crate) fn report(&mut self, now: Instant, event: Event) {
        let connection = match &event {
            Event::Connected { id, .. }
            | Event::Closed { id, .. }
            | Event::Unreachable { id, .. } => *id,
            _ => return self.events.push_back(event),
        };
        let Some(id) = self.links.by_connection.get(&connection).copied() else {
            return self.events.push_back(event);
        };
        let Some(mut link) = self.links.take(id) else { return };
        let url = link.redial.url().clone();
        let mut pause = None;
        if let Event::Connected { session, .. } = &event {
            link.attempt = None;
            link.redial.connected(now);
            link.current = Some((connection, session.clone()));
            self.events.push_back(event);
            self.follow_goaway(now, id, &mut link);
        } else {
            // GOAWAY may have come right before the end.
            self.follow_goaway(now, id, &mut link);
            self.links.by_connection.remove(&connection);
            if let Some(n) = link.leaving.iter().position(|(leaving, _)| *leaving == connection) {
                link.leaving.remove(n);
                link.redial.left(now);
            } else if link.attempt.take_if(|attempt| *attempt == connection).is_some() {
                pause = Some(link.redial.failed(now));
            } else if link.current.take_if(|(current, _)| *current == connection).is_some() {
                pause = Some(link.redial.lost(now));
            }
            self.events.push_back(event);
        }
        self.links.put(id, link);
        if let Some(pause) = pause {
            self.events.push_back(Event::Waiting { reconnect: id, url, error: None, pause });
        }
    }

    /// A session of this client may have received GOAWAY.
    pub(crate) fn link_woken(&mut self, key: u64) {
        let id = ReconnectId(key & !LINK);
        if let Some(mut link) = self.links.take(id) {
            self.follow_goaway(clock(), id, &mut link);
            self.links.put(id, link);
        }
    }

    fn follow_goaway(&mut self, now: Instant, id: ReconnectId, link: &mut Link) {
        let Some((connection, session)) = &mut link.current else { return };
        let going = session.poll_going_away(&mut Context::from_waker(&link.waker));
        let Poll::Ready(Ok(goaway)) = going else { return };
        let (redirect, pause) = link.redial.going_away(now, &goaway);
        let (reconnect, id) = (id, *connection);
        self.events.push_back(Event::GoingAway { reconnect, id, goaway, redirect, pause });
        if let Some((_, earlier)) = link.leaving.back() {
            earlier.drain();
        }
        link.leaving.extend(link.current.take());
        if link.leaving.len() > MAX_LEAVING {
            link.leaving[0].1.close(Error::Limit(LimitKind::LeavingSessions));
        }
    }
}
