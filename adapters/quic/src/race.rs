//! The order and timing in which the addresses of a host are dialed.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long an attempt may be alone before the next address is dialed as well: 250 ms, as RFC 8305,
/// section 8 recommends.
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Decides which address of a host is dialed when (RFC 8305, "Happy Eyeballs").
///
/// The families alternate, IPv6 first; within a family the order is the caller's. An attempt that fails
/// is followed by the next one at once, any other after [`ATTEMPT_DELAY`]. The first handshake that
/// completes wins, and the caller drops the race.
///
/// It does no I/O and reads no clock. Call [`poll`](Self::poll) until it gives nothing, then wait for an
/// attempt to end or for [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Race<E> {
    waiting: VecDeque<SocketAddr>,
    /// Attempts that were started and have not failed.
    running: usize,
    /// When the next attempt may start.
    pause: Option<Instant>,
    failed: Vec<(SocketAddr, E)>,
}

impl<E> Race<E> {
    /// A race of all `addresses`. Duplicates are dialed once.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut families = [VecDeque::new(), VecDeque::new()];
        for address in addresses {
            // An IPv4 address may be in the mapped form of an IPv6 socket.
            let address = match address.ip().to_canonical() {
                ip if ip == address.ip() => address,
                ip => (ip, address.port()).into(),
            };
            let family = &mut families[usize::from(address.is_ipv4())];
            if !family.contains(&address) {
                family.push_back(address);
            }
        }
        let [mut v6, mut v4] = families;
        let mut waiting = VecDeque::with_capacity(v6.len() + v4.len());
        while !v6.is_empty() || !v4.is_empty() {
            waiting.extend(v6.pop_front());
            waiting.extend(v4.pop_front());
        }
        Self { waiting, running: 0, pause: None, failed: Vec::new() }
    }

    /// The next address to dial now. It counts as running until [`failed`](Self::failed) is called.
    pub fn poll(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.pause.is_some_and(|until| now < until) {
            return None;
        }
        let address = self.waiting.pop_front()?;
        self.pause = Some(now + ATTEMPT_DELAY);
        self.running += 1;
        Some(address)
    }

    /// When [`poll`](Self::poll) returns the next address; `None` if no address is left.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pause.filter(|_| !self.waiting.is_empty())
    }

    /// An attempt failed: the next one may start at once.
    pub fn failed(&mut self, address: SocketAddr, error: E) {
        self.running = self.running.saturating_sub(1);
        self.pause = None;
        self.failed.push((address, error));
    }

    /// Whether all attempts have failed.
    pub fn is_lost(&self) -> bool {
        self.waiting.is_empty() && self.running == 0
    }

    /// The errors of all attempts, for a caller that gives up `host`.
    pub fn into_error(self, host: &str) -> Unreachable<E> {
        Unreachable { host: host.into(), tried: self.failed }
    }
}

/// No address of a host could be reached.
///
/// `Display` lists every address that was tried, in the order in which they failed, with its error.
#[derive(Debug)]
pub struct Unreachable<E> {
    /// The name that was dialed.
    pub host: String,
    /// Each address and its error; empty if the host has no address.
    pub tried: Vec<(SocketAddr, E)>,
}

impl<E: fmt::Display> fmt::Display for Unreachable<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tried.is_empty() {
            return write!(f, "{} has no address", self.host);
        }
        write!(f, "can't reach {}", self.host)?;
        for (n, (address, error)) in self.tried.iter().enumerate() {
            write!(f, "{} {address}: {error}", if n == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for Unreachable<E> {}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any time will do to begin with")]

    use super::*;

    fn addresses(all: &[&str]) -> Vec<SocketAddr> {
        all.iter().map(|address| address.parse().unwrap()).collect()
    }

    /// RFC 8305, section 4.
    #[test]
    fn families_alternate_and_ipv6_is_first() {
        let mut race = Race::<&str>::new(addresses(&[
            "192.0.2.1:1",
            "192.0.2.2:1",
            "[::ffff:192.0.2.1]:1",
            "192.0.2.3:1",
            "[2001:db8::1]:1",
            "[2001:db8::1]:1",
            "[2001:db8::2]:1",
        ]));
        let mut now = Instant::now();
        let mut order = Vec::new();
        while let Some(address) = race.poll(now) {
            order.push(address);
            now += ATTEMPT_DELAY;
        }
        let expected =
            ["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "192.0.2.2:1", "192.0.2.3:1"];
        assert_eq!(order, addresses(&expected));
        assert_eq!(race.poll_timeout(), None, "there is nothing to wait for but the attempts");
    }

    /// RFC 8305, section 5.
    #[test]
    fn the_next_attempt_begins_after_the_delay_or_at_once_after_a_failure() {
        let [first, second, third] = addresses(&["[::1]:1", "192.0.2.1:1", "192.0.2.2:1"])
            .try_into()
            .expect("there are three");
        let mut race = Race::new([first, second, third]);
        let begun = Instant::now();
        assert_eq!(race.poll(begun), Some(first));
        assert_eq!(race.poll(begun), None);
        assert_eq!(race.poll_timeout(), Some(begun + ATTEMPT_DELAY));
        assert_eq!(race.poll(begun + ATTEMPT_DELAY - Duration::from_millis(1)), None);
        assert_eq!(race.poll(begun + ATTEMPT_DELAY), Some(second));
        race.failed(second, "refused");
        assert_eq!(race.poll(begun + ATTEMPT_DELAY), Some(third));
        assert!(!race.is_lost());
        race.failed(first, "silent");
        assert!(!race.is_lost());
        race.failed(third, "silent");
        assert!(race.is_lost());
        let error = race.into_error("relay.example").to_string();
        let expected = "can't reach relay.example: 192.0.2.1:1: refused; [::1]:1: silent; \
                        192.0.2.2:1: silent";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_host_without_addresses_is_lost_at_once() {
        let mut race = Race::<&str>::new([]);
        assert_eq!(race.poll(Instant::now()), None);
        assert!(race.is_lost());
        assert_eq!(race.into_error("nowhere").to_string(), "nowhere has no address");
    }
}
