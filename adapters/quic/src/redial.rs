//! When a client dials again after a lost session, and which URL.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SystemRandom, generate};
use smoq::{Client, Goaway, Retained};

use crate::Url;

/// Sessions of a client that end after GOAWAY, at most: 8.
///
/// The latest of them goes on until it ends by itself. When the next one receives GOAWAY, it is
/// [drained](smoq::Session::drain). When there is one more than these, the oldest is closed at once, and reported with
/// [`LimitKind::LeavingSessions`](smoq::LimitKind::LeavingSessions).
pub const MAX_LEAVING: usize = 8;

/// Decides where a client dials, and when it dials again: the policy of `smoq_quinn::reconnect` and
/// `smoq_blocking::Endpoint::reconnect`.
///
/// - **Several URLs** are tried in turn, without a pause between them. The one that was reached stays the first.
/// - **A pause follows when all of them failed.** It doubles from round to round, between the two
///   [`pauses`](Self::pauses), and half of it is random.
/// - **A session that ends early counts as a failure** of its URL, so a server that refuses sessions is not asked without
///   end. After one that [lasted](Self::lasting) the pauses begin anew, with a short random one, because all clients of a
///   server lose it at the same time.
/// - **After GOAWAY** the client dials while the old session goes on: the URL that the server names, if the application
///   [allows it](Self::follow), otherwise the same one. A URL of a server is used until it fails or its session ends.
///   [Several](MAX_LEAVING) sessions may end at a time.
/// - **Readers wait across the gap** for a session with the same content, [this long](Self::hold); see
///   [`Retained`].
///
/// It does no I/O and reads no clock. The caller carries out what [`poll`](Self::poll) returns until that is `None`, reports
/// the result, and waits until [`poll_timeout`](Self::poll_timeout). `U` is the type of the URLs.
///
/// ```
/// use std::time::{Duration, Instant};
/// use smoq_quic::{Redial, Redialing, Url};
///
/// let [near, far]: [Url; 2] = ["moqt://a.example".parse()?, "moqt://b.example".parse()?];
/// let mut redial = Redial::new(near.clone()).or(far.clone());
/// let now = Instant::now();
/// assert_eq!(redial.poll(now), Some(Redialing::Dial(near)));
/// assert_eq!(redial.failed(now), Duration::ZERO);
/// assert_eq!(redial.poll(now), Some(Redialing::Dial(far)));
/// assert!(redial.failed(now) >= Duration::from_millis(125));
/// assert_eq!(redial.poll(now), None);
/// # Ok::<(), smoq_quic::InvalidUrl>(())
/// ```
#[derive(Clone)]
pub struct Redial<U = Url> {
    urls: Vec<U>,
    pauses: (Duration, Duration),
    attempt_timeout: Duration,
    lasting: Duration,
    hold: Duration,
    follow: Option<Arc<Follow<U>>>,
    retained: Retained,
    random: u64,
    state: State,
    /// The URL whose turn it is.
    turn: usize,
    /// How many URLs are left in this round.
    left: usize,
    /// The URL that a server named. It comes before the others.
    redirect: Option<U>,
    /// Rounds that failed, one after the other.
    failures: u32,
    /// When readers have waited long enough.
    hold_until: Option<Instant>,
}

type Follow<U> = dyn Fn(&U) -> bool + Send + Sync;

#[derive(Clone, Copy, Debug)]
enum State {
    /// The next attempt is due then; at once if `None`.
    Waiting(Option<Instant>),
    /// The attempt is given up then.
    Dialing(Instant),
    Connected(Instant),
}

/// The next step of a caller, from [`Redial::poll`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Redialing<U = Url> {
    /// Dial this URL, and report [`connected`](Redial::connected) or [`failed`](Redial::failed).
    Dial(U),
    /// Nobody answered in time: end the attempt, and report [`failed`](Redial::failed).
    GiveUp,
}

/// The use of the URL in a GOAWAY, from [`Redial::going_away`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Redirect {
    /// The server names none: the same URL is dialed.
    Same,
    /// It is dialed next.
    Followed,
    /// The application does not allow it: the same URL is dialed.
    Refused,
    /// It can't be parsed: the same URL is dialed.
    Invalid,
}

/// Longer times than this make no difference, and do not overflow.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3_600);

fn after(now: Instant, time: Duration) -> Instant {
    now + time.min(FOREVER)
}

impl<U: Clone> Redial<U> {
    /// Dials `url`. The system seeds the random part of the pauses.
    pub fn new(url: U) -> Self {
        let seed = generate::<[u8; 8]>(&SystemRandom::new()).map(|seed| seed.expose());
        Self {
            urls: vec![url],
            pauses: (Duration::from_millis(250), Duration::from_secs(30)),
            attempt_timeout: Duration::from_secs(15),
            lasting: Duration::from_secs(10),
            hold: Duration::from_secs(10),
            follow: None,
            retained: Retained::new(),
            // Without random numbers TLS fails as well.
            random: seed.map_or(0, u64::from_le_bytes),
            state: State::Waiting(None),
            turn: 0,
            left: 1,
            redirect: None,
            failures: 0,
            hold_until: None,
        }
    }

    /// Adds a URL that is tried after those before it.
    #[must_use]
    pub fn or(mut self, url: U) -> Self {
        self.urls.push(url);
        self.left = self.urls.len();
        self
    }

    /// Sets the pause after the first round in which all URLs failed, and the longest one. Half of each is random.
    /// Default: 250 ms and 30 s. At least 1 ms.
    #[must_use]
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        let first = first.max(Duration::from_millis(1));
        self.pauses = (first, longest.max(first));
        self
    }

    /// Sets how long one attempt may take, with all addresses of a host, TLS, and HTTP/3. Default: 15 s, longer than the
    /// idle timeout of QUIC, whose error tells more.
    #[must_use]
    pub fn attempt_timeout(mut self, time: Duration) -> Self {
        self.attempt_timeout = time;
        self
    }

    /// Sets how long a session must last so that its end is no failure. Default: 10 s.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = time;
        self
    }

    /// Sets how long readers wait for another session with the same content. Default: 10 s.
    #[must_use]
    pub fn hold(mut self, time: Duration) -> Self {
        self.hold = time;
        self
    }

    /// Follows the URL in a GOAWAY if `allowed` returns `true` for it. A server can send its clients anywhere: allow what
    /// you trust with the path and the tokens of the session. Default: none is followed.
    #[must_use]
    pub fn follow(mut self, allowed: impl Fn(&U) -> bool + Send + Sync + 'static) -> Self {
        self.follow = Some(Arc::new(allowed));
        self
    }

    /// Sets the seed of the random parts, so that runs can be repeated. Default: from the system.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.random = seed;
        self
    }

    /// The client whose sessions keep their readers across the gap.
    pub fn client(&self, client: &Client) -> Client {
        client.clone().with_retained(&self.retained)
    }

    /// The URL that is dialed now or next, or that the session has.
    pub fn url(&self) -> &U {
        self.redirect.as_ref().unwrap_or(&self.urls[self.turn])
    }

    /// The next step. `None`: there is none before [`poll_timeout`](Self::poll_timeout).
    pub fn poll(&mut self, now: Instant) -> Option<Redialing<U>> {
        if self.hold_until.is_some_and(|until| until <= now) {
            self.release();
        }
        match self.state {
            State::Waiting(at) if at.is_none_or(|at| at <= now) => {
                self.state = State::Dialing(after(now, self.attempt_timeout));
                Some(Redialing::Dial(self.url().clone()))
            }
            State::Dialing(until) if until <= now => Some(Redialing::GiveUp),
            _ => None,
        }
    }

    /// When [`poll`](Self::poll) has something to do. `None`: not before the session ends.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = match self.state {
            State::Waiting(at) => at,
            State::Dialing(until) => Some(until),
            State::Connected(_) => None,
        };
        due.into_iter().chain(self.hold_until).min()
    }

    /// The attempt led to a session.
    pub fn connected(&mut self, now: Instant) {
        self.state = State::Connected(now);
    }

    /// The attempt failed. Returns the pause before the next one.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let pause = self.next_turn();
        self.wait(now, pause)
    }

    /// The session ended. Returns the pause before the next attempt.
    pub fn lost(&mut self, now: Instant) -> Duration {
        let lasted = self.lasted(now);
        if lasted || self.hold_until.is_none() {
            self.hold_until = Some(after(now, self.hold));
        }
        let pause = match lasted {
            true => {
                self.redirect = None;
                self.begin_anew()
            }
            false => self.next_turn(),
        };
        self.wait(now, pause)
    }

    /// The peer of the session sent GOAWAY. The old session goes on meanwhile; report its end as
    /// [`left`](Self::left). Returns the pause before the next attempt as well.
    pub fn going_away(&mut self, now: Instant, goaway: &Goaway) -> (Redirect, Duration)
    where
        U: FromStr,
    {
        let redirect = match goaway.uri.as_deref().map(str::parse::<U>) {
            None => Redirect::Same,
            Some(Err(_)) => Redirect::Invalid,
            Some(Ok(url)) if self.follow.as_ref().is_some_and(|allowed| allowed(&url)) => {
                self.redirect = Some(url);
                Redirect::Followed
            }
            Some(Ok(_)) => Redirect::Refused,
        };
        let pause = match self.lasted(now) {
            true => self.begin_anew(),
            // Servers that send a client to each other must not keep it busy.
            false => self.back_off(),
        };
        (redirect, self.wait(now, pause))
    }

    /// A session that had sent GOAWAY ended.
    pub fn left(&mut self, now: Instant) {
        self.hold_until = Some(after(now, self.hold));
    }

    /// Ends what readers wait for, because no attempt follows.
    pub fn release(&mut self) {
        self.hold_until = None;
        self.retained.release();
    }

    fn wait(&mut self, now: Instant, pause: Duration) -> Duration {
        self.state = State::Waiting(Some(after(now, pause)));
        pause
    }

    fn lasted(&self, now: Instant) -> bool {
        match self.state {
            State::Connected(since) => now.saturating_duration_since(since) >= self.lasting,
            _ => false,
        }
    }

    fn begin_anew(&mut self) -> Duration {
        (self.failures, self.left) = (0, self.urls.len());
        self.random_below(self.pauses.0)
    }

    /// The URL failed: it is the turn of the next one.
    fn next_turn(&mut self) -> Duration {
        if self.redirect.take().is_some() {
            return Duration::ZERO;
        }
        self.turn = (self.turn + 1) % self.urls.len();
        self.left -= 1;
        if self.left > 0 {
            return Duration::ZERO;
        }
        self.left = self.urls.len();
        self.back_off()
    }

    fn back_off(&mut self) -> Duration {
        let (first, longest) = self.pauses;
        let pause = first.saturating_mul(1 << self.failures.min(30)).min(longest);
        self.failures = self.failures.saturating_add(1);
        let half = pause / 2;
        pause - half + self.random_below(half)
    }

    fn random_below(&mut self, time: Duration) -> Duration {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let nanos = (time.min(FOREVER).as_nanos() * u128::from(bits >> 32)) >> 32;
        Duration::from_nanos(nanos as u64)
    }
}

impl<U: fmt::Debug> fmt::Debug for Redial<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { urls, state, failures, redirect, .. } = self;
        let mut f = f.debug_struct("Redial");
        f.field("urls", urls).field("redirect", redirect).field("state", state);
        f.field("failures", failures).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
