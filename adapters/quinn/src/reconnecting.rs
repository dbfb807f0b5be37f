//! A client that dials again.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use smoq::{Client, Error, Goaway, LimitKind, Session};
use smoq_quic::{MAX_LEAVING, Redial, Redialing, Redirect, Url};

use crate::endpoint::default_runtime;

/// A change of a client that dials again, from [`Reconnecting::next`]. `U` is a URL, `E` the error of an attempt.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionEvent<U, E> {
    /// There is a session.
    Connected {
        /// The URL of the session.
        url: U,
        /// The session. [`Reconnecting`] keeps a handle as well, so dropping this one ends nothing.
        session: Session,
    },
    /// An attempt failed.
    Failed {
        /// The URL of the session.
        url: U,
        /// Why. `None`: nobody answered within [`Redial::attempt_timeout`].
        error: Option<E>,
        /// The pause before the next attempt.
        pause: Duration,
    },
    /// The session ended, in whatever way.
    Lost {
        /// The URL of the session.
        url: U,
        /// `Ok` if one of the sides closed it without an error. [`LimitKind::LeavingSessions`]: it was the oldest of more
        /// than [`MAX_LEAVING`] sessions whose peers had sent GOAWAY.
        end: Result<(), Error>,
        /// The pause before the next attempt. `None` if there is none because of this end: the peer had sent GOAWAY, or
        /// [`Reconnecting::stop`] was called.
        pause: Option<Duration>,
    },
    /// The peer sent GOAWAY. The session goes on until it ends by itself, and the next one is dialed meanwhile. If the peer
    /// of that one sends GOAWAY as well, this session is drained. [`Lost`](Self::Lost) reports its end in any case.
    GoingAway {
        /// The URL of the session.
        url: U,
        /// The GOAWAY of the peer.
        goaway: Goaway,
        /// Whether the next attempt goes where the peer wants.
        redirect: Redirect,
        /// The pause before the next attempt.
        pause: Duration,
    },
}

/// Keeps a client connected: it dials, drives the session, and dials again when the session ends or the peer sends GOAWAY.
/// [`Redial`] decides where and when.
///
/// `dial` makes one attempt. It is given the URL, and `client` with what keeps readers across the gap, and returns a
/// session and the future that drives it: those of [`connect`](crate::connect), or of any other adapter. The future may do
/// more when the session is over, for example wait for the last packets.
///
/// Nothing happens unless [`next`](Reconnecting::next) is polled, and nothing is spawned. Dropping the result ends the
/// attempt, the session and the waiting.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use smoq_quinn::{SessionEvent, config, smoq_quic::{Redial, Trust, Url}};
///
/// let received = smoq::Origin::default().produce();
/// let client = smoq::Client::new().with_consume(received.clone());
/// let redial = Redial::<Url>::new("moqt://a.example".parse()?).or("moqt://b.example".parse()?);
/// let mut reconnecting = smoq_quinn::reconnect(redial, &client, |url, client| async move {
///     let addresses = tokio::net::lookup_host((url.host(), url.port())).await?;
///     let tls = config::client_for(&url, &Trust::WebRoots, client.versions())?;
///     let (_endpoint, connection) = smoq_quinn::dial(url.host(), addresses, tls).await?;
///     let client = client.with_path(url.path()).with_authority(url.authority());
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(smoq_quinn::connect(connection, &client).await?)
/// })?;
/// tokio::spawn(async move {
///     while let Some(event) = reconnecting.next().await {
///         match event {
///             SessionEvent::Connected { url, .. } => println!("connected to {url}"),
///             SessionEvent::Lost { url, end, .. } => println!("lost {url}: {end:?}"),
///             _ => {}
///         }
///     }
/// });
/// // Readers of `received` go on from session to session.
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// There is no async runtime, which has the timers.
pub fn reconnect<U, E, Dialing, Driving>(
    redial: Redial<U>,
    client: &Client,
    dial: impl FnMut(U, Client) -> Dialing + Send + 'static,
) -> io::Result<Reconnecting<U, E>>
where
    U: Clone + FromStr,
    Dialing: Future<Output = Result<(Session, Driving), E>> + Send + 'static,
    Driving: Future<Output = Result<(), Error>> + Send + 'static,
{
    Ok(reconnect_in(redial, client, dial, default_runtime()?))
}

/// As [`reconnect`], with an explicit runtime for timers.
pub fn reconnect_in<U, E, Dialing, Driving>(
    redial: Redial<U>,
    client: &Client,
    mut dial: impl FnMut(U, Client) -> Dialing + Send + 'static,
    runtime: Arc<dyn quinn::Runtime>,
) -> Reconnecting<U, E>
where
    U: Clone + FromStr,
    Dialing: Future<Output = Result<(Session, Driving), E>> + Send + 'static,
    Driving: Future<Output = Result<(), Error>> + Send + 'static,
{
    let client = redial.client(client);
    let dial = move |url| -> Attempt<E> {
        let dialing = dial(url, client.clone());
        Box::pin(async move {
            let (session, driving) = dialing.await?;
            Ok((session, Box::pin(driving) as Driven))
        })
    };
    let (attempt, current, leaving, timer) = Default::default();
    Reconnecting { attempt, current, leaving, dial: Some(Box::new(dial)), redial, timer, runtime }
}

/// Drives a session.
type Driven = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Makes a session.
type Attempt<E> = Pin<Box<dyn Future<Output = Result<(Session, Driven), E>> + Send>>;

/// A client that dials again: see [`reconnect`].
#[must_use = "nothing happens while nobody polls it"]
pub struct Reconnecting<U = Url, E = Error> {
    attempt: Option<Attempt<E>>,
    current: Option<Running<U>>,
    /// The sessions whose peers sent GOAWAY, the oldest first.
    leaving: VecDeque<Running<U>>,
    /// `None` after [`stop`](Self::stop).
    dial: Option<Box<dyn FnMut(U) -> Attempt<E> + Send>>,
    redial: Redial<U>,
    timer: Option<(Instant, Pin<Box<dyn quinn::AsyncTimer>>)>,
    runtime: Arc<dyn quinn::Runtime>,
}

struct Running<U> {
    url: U,
    /// `None` after [`Reconnecting::stop`].
    session: Option<Session>,
    driving: Driven,
}

impl<U: Clone + FromStr, E> Reconnecting<U, E> {
    /// The next event. `None` after [`stop`](Self::stop), when the last session is over. It is cancel safe.
    pub async fn next(&mut self) -> Option<SessionEvent<U, E>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Dials no more, and gives up an attempt. A session that runs goes on: drain it by its handle, or drop all handles,
    /// and poll [`next`](Self::next) to its end. Readers of a session that was lost wait no longer.
    pub fn stop(&mut self) {
        (self.dial, self.attempt) = (None, None);
        for running in self.leaving.iter_mut().chain(&mut self.current) {
            running.session = None;
        }
        self.redial.release();
    }

    /// As [`next`](Self::next), for a task that polls.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<SessionEvent<U, E>>> {
        loop {
            if let Some(event) = self.poll_sessions(cx) {
                return Poll::Ready(Some(event));
            }
            let Some(dial) = &mut self.dial else {
                let is_over = self.current.is_none() && self.leaving.is_empty();
                return if is_over { Poll::Ready(None) } else { Poll::Pending };
            };
            let now = self.runtime.now();
            if let Some(attempt) = &mut self.attempt {
                if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
                    self.attempt = None;
                    let url = self.redial.url().clone();
                    return Poll::Ready(Some(match result {
                        Ok((session, driving)) => {
                            self.redial.connected(now);
                            let kept = Some(session.clone());
                            self.current =
                                Some(Running { url: url.clone(), session: kept, driving });
                            SessionEvent::Connected { url, session }
                        }
                        Err(error) => self.failed(now, url, Some(error)),
                    }));
                }
            }
            match self.redial.poll(now) {
                Some(Redialing::Dial(url)) => {
                    self.attempt = Some(dial(url));
                    continue;
                }
                Some(_) => {
                    self.attempt = None;
                    let url = self.redial.url().clone();
                    return Poll::Ready(Some(self.failed(now, url, None)));
                }
                None => {}
            }
            let Some(at) = self.redial.poll_timeout() else { return Poll::Pending };
            let (set, timer) = self.timer.get_or_insert_with(|| (at, self.runtime.new_timer(at)));
            if *set != at {
                *set = at;
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // A timer that fired has to be made anew, even for the same time.
            self.timer = None;
        }
    }

    fn failed(&mut self, now: Instant, url: U, error: Option<E>) -> SessionEvent<U, E> {
        SessionEvent::Failed { url, error, pause: self.redial.failed(now) }
    }

    fn poll_sessions(&mut self, cx: &mut Context<'_>) -> Option<SessionEvent<U, E>> {
        for n in 0..self.leaving.len() {
            if let Poll::Ready(end) = self.leaving[n].driving.as_mut().poll(cx) {
                return Some(self.left(n, end));
            }
        }
        if self.leaving.len() > MAX_LEAVING {
            // It was closed, and is dropped now, whatever it still waits for.
            return Some(self.left(0, Err(Error::Limit(LimitKind::LeavingSessions))));
        }
        let current = self.current.as_mut()?;
        let end = current.driving.as_mut().poll(cx);
        // Also if the session ended at once after it.
        if let Some(Poll::Ready(Ok(goaway))) =
            current.session.as_mut().map(|session| session.poll_going_away(cx))
        {
            if let Poll::Ready(end) = end {
                current.driving = Box::pin(ready(end));
            }
            let url = current.url.clone();
            if let Some(Running { session: Some(earlier), .. }) = self.leaving.back() {
                earlier.drain();
            }
            self.leaving.extend(self.current.take());
            if self.leaving.len() > MAX_LEAVING {
                if let Some(oldest) = &self.leaving[0].session {
                    oldest.close(Error::Limit(LimitKind::LeavingSessions));
                }
            }
            let (redirect, pause) = self.redial.going_away(self.runtime.now(), &goaway);
            return Some(SessionEvent::GoingAway { url, goaway, redirect, pause });
        }
        let Poll::Ready(end) = end else { return None };
        let url = self.current.take()?.url;
        let pause = self.redial.lost(self.runtime.now());
        Some(SessionEvent::Lost { url, end, pause: self.pause_unless_stopped(pause) })
    }

    /// A session whose peer had sent GOAWAY is over.
    fn left(&mut self, n: usize, end: Result<(), Error>) -> SessionEvent<U, E> {
        let url = self.leaving.remove(n).expect("it is leaving").url;
        self.redial.left(self.runtime.now());
        self.pause_unless_stopped(Duration::ZERO);
        SessionEvent::Lost { url, end, pause: None }
    }

    /// Readers do not wait for a session that will not come.
    fn pause_unless_stopped(&mut self, pause: Duration) -> Option<Duration> {
        if self.dial.is_none() {
            self.redial.release();
            return None;
        }
        Some(pause)
    }
}

impl<U: fmt::Debug, E> fmt::Debug for Reconnecting<U, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnecting").field("redial", &self.redial).finish_non_exhaustive()
    }
}
