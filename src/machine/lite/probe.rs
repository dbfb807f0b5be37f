//! What the publisher knows of the path to its subscriber (moq-lite 03+, *Probe*).
//!
//! The stream is its type and nothing more from who asks, and PROBE messages from who reports. Either
//! side ends it, and then it is not asked again.

use core::time::Duration;

use super::super::Core;
use super::super::app::Event;
use super::super::counts::PathInfo;
use super::super::dialect::{Dialect, Look};
use super::super::timers::Timer;
use super::{Lite, Role};
use crate::census::census;
use crate::coding::lite::{BiStream, Features, Probe, Setup};
use crate::coding::varint;
use crate::error::Error;
use crate::machine::PathEstimate;
use crate::slab::Key;
use crate::time::Instant;

/// Two reports are this far apart at least, whatever happens. What changed meanwhile is told as one.
const SHORTEST: Duration = Duration::from_millis(100);
/// A report is repeated after this time, whatever does not happen.
const LONGEST: Duration = Duration::from_secs(10);

// ---- as publisher ----------------------------------------------------------------------------

/// The peer asked what we know of the path.
#[derive(Debug)]
pub(super) struct Reporting {
    request: Key,
    /// What was told last, and when.
    told: Option<(Instant, Probe)>,
    timer: Option<Instant>,
}

impl Reporting {
    /// When `news` are to be told, if ever.
    fn due(&self, news: &Probe, now: Instant) -> Option<Instant> {
        let is_known = *news != Probe::default();
        let Some((at, told)) = &self.told else { return is_known.then_some(now) };
        // That nothing is known any more is told once.
        (is_known || news != told).then(|| *at + patience(told, news))
    }
}

/// How long after `told` it is time for `news`: a change by a quarter is told at once, a smaller one of
/// the bitrate the later the smaller it is, and of the round-trip time with what comes next.
fn patience(told: &Probe, news: &Probe) -> Duration {
    let millis = |rtt: Option<Duration>| rtt.map(|rtt| rtt.as_millis());
    if quarters(millis(told.rtt), millis(news.rtt), 1) == 1 {
        return SHORTEST;
    }
    let decay = LONGEST - SHORTEST;
    let bits = |bitrate: Option<u64>| bitrate.map(u128::from);
    let saved = quarters(bits(told.bitrate), bits(news.bitrate), decay.as_micros());
    LONGEST - Duration::from_micros(u64::try_from(saved).unwrap_or(u64::MAX)).min(decay)
}

/// By how many quarters something moved, one at most: in parts of `whole`.
fn quarters(before: Option<u128>, now: Option<u128>, whole: u128) -> u128 {
    match (before, now) {
        (Some(before), Some(now)) => (before.abs_diff(now) * 4 * whole / before.max(1)).min(whole),
        (None, None) => 0,
        _ => whole,
    }
}

/// What can be told of the path, as it stands on the wire.
fn report(path: &PathInfo, features: &Features) -> Probe {
    let bits = path.rate.saturating_mul(8).min(varint::MAX);
    let millis = u64::try_from(path.rtt.as_millis()).unwrap_or(u64::MAX).max(1);
    let rtt = Duration::from_millis(millis);
    Probe {
        bitrate: (path.rate > 0).then_some(bits),
        rtt: (features.rtt && !path.rtt.is_zero()).then_some(rtt),
    }
}

impl Lite {
    /// The peer opened a Probe stream. One at a time is enough.
    pub(super) fn probe_requested(
        &mut self,
        core: &mut Core,
        key: Key,
        type_len: usize,
    ) -> Result<Look, Error> {
        if core.state.is_ending() {
            return Err(Error::GoingAway);
        }
        if self.reporting.is_some() {
            return Err(Error::Limit("probe streams"));
        }
        if let Some(request) = core.requests.get(key) {
            request.recv.skip(type_len);
        }
        self.reporting = Some(Reporting { request: key, told: None, timer: None });
        self.set_role(key, Role::Reporting);
        self.tell_path(core);
        Ok(Look::More)
    }

    /// The path is otherwise, or it is time: queues a report, or waits until one is due. A report that
    /// the peer does not take yet is replaced by the next one, see [`Lite::refill_reporting`].
    pub(super) fn tell_path(&mut self, core: &mut Core) {
        let Some(reporting) = &mut self.reporting else { return };
        if let Some(at) = reporting.timer.take() {
            core.timers.unset(at, Timer::Probe);
        }
        match reporting.due(&report(&core.path, self.features), core.now) {
            Some(at) if at <= core.now => core.requests.queue_out(reporting.request),
            Some(at) => {
                core.timers.set(at, Timer::Probe);
                reporting.timer = Some(at);
            }
            None => {}
        }
    }

    /// The peer takes more: writes what is due, if the report before is out.
    pub(super) fn refill_reporting(&mut self, core: &mut Core, key: Key) {
        let Some(reporting) = &mut self.reporting else { return };
        let news = report(&core.path, self.features);
        let is_due = reporting.due(&news, core.now).is_some_and(|at| at <= core.now);
        if !is_due || core.requests.owed(key) > 0 {
            return;
        }
        let version = self.version;
        core.requests.write(key, |out| news.encode(out, version).expect("was made to fit"));
        reporting.told = Some((core.now, news));
        self.tell_path(core);
    }

    /// The peer has nothing more to say on its request. FIN is the end of it.
    pub(super) fn look_at_reporting(&mut self, core: &mut Core, key: Key) -> Look {
        let Some(request) = core.requests.get(key) else { return Look::Wait };
        let error = match request.given_up() {
            Some(code) => Some(Error::from_stream_code(code)),
            None if request.recv.len() > 0 => {
                Some(Error::Malformed(crate::DecodeError::TrailingBytes))
            }
            None if request.recv.has_fin() => None,
            None => return Look::Wait,
        };
        let timer = self.reporting.take().and_then(|reporting| reporting.timer);
        timer.inspect(|at| core.timers.unset(*at, Timer::Probe));
        match error {
            Some(error) => self.cancel(core, key, &error),
            None => self.finish(core, key),
        }
        Look::Wait
    }
}

// ---- as subscriber ---------------------------------------------------------------------------

/// What we asked the peer of the path.
#[derive(Debug, Default)]
pub(super) struct Probing {
    wanted: bool,
    /// Also one that is not wanted any more, until the peer has ended it.
    request: Option<Key>,
    /// The peer can't tell, or won't: it is not asked again.
    over: Option<Error>,
}

impl Lite {
    pub(super) fn probe(&mut self, core: &mut Core) {
        if let Some(error) = self.probing.over.clone() {
            return core.notices.push_back(Event::ProbeEnded { error });
        }
        self.probing.wanted = true;
        self.open_probe(core);
    }

    /// Asks, once it is known that the peer can answer, and the stream before is over.
    pub(super) fn open_probe(&mut self, core: &mut Core) {
        if !self.probing.wanted || self.probing.request.is_some() {
            return;
        }
        let can_report = match &self.peer {
            _ if !self.features.probe => false,
            None => return,
            Some(peer) => {
                !self.features.setup || peer.probe.is_some_and(|level| level >= Setup::REPORT)
            }
        };
        if !can_report {
            let error = self.probe_over(Error::Unsupported);
            return core.notices.push_back(Event::ProbeEnded { error });
        }
        let key = core.requests.open();
        core.requests.write(key, |out| BiStream::Probe.encode(out));
        self.set_role(key, Role::Probing);
        self.probing.request = Some(key);
    }

    pub(super) fn unprobe(&mut self, core: &mut Core) {
        self.probing.wanted = false;
        let Some(key) = self.probing.request else { return };
        if core.requests.withdraw(key) {
            self.set_role(key, Role::New);
            self.probing.request = None;
        } else if matches!(self.role(key), Role::Probing) {
            core.requests.finish(key);
            core.requests.queue_in(key);
            self.set_role(key, Role::Probed);
        }
    }

    fn probe_over(&mut self, error: Error) -> Error {
        self.probing = Probing { wanted: false, request: None, over: Some(error.clone()) };
        error
    }

    pub(super) fn look_at_probing(&mut self, core: &mut Core, key: Key) -> Look {
        let error = match self.read_estimate(core, key) {
            Ok(Some(estimate)) => return Look::Event(Event::Estimate { estimate }),
            Ok(None) => return Look::Wait,
            Err(error) => self.probe_over(error),
        };
        match error {
            Error::Malformed(_) => self.cancel(core, key, &error),
            _ => self.finish(core, key),
        }
        Look::Event(Event::ProbeEnded { error })
    }

    fn read_estimate(&self, core: &mut Core, key: Key) -> Result<Option<PathEstimate>, Error> {
        let Some(request) = core.requests.get(key) else { return Ok(None) };
        if let Some(code) = request.recv.reset() {
            return Err(Error::from_stream_code(code));
        }
        if request.recv.is_finished() {
            return Err(Error::Unsupported);
        }
        let Some((_, body)) = self.next_message(core, key, false)? else { return Ok(None) };
        let Probe { bitrate, rtt } = Probe::decode_body(&body, self.version)?;
        Ok(Some(PathEstimate { bitrate, rtt }))
    }

    /// We want to hear no more. The next one is not asked before this one is over, so that the peer has
    /// one at a time.
    pub(super) fn look_at_probed(&mut self, core: &mut Core, key: Key) -> Look {
        if core.requests.retire(key) {
            self.set_role(key, Role::New);
            self.probing.request = None;
            self.open_probe(core);
        }
        Look::Wait
    }
}

census! { each Reporting { counts: timer; plain: request, told; } }
census! { Probing { counts: wanted, request; plain: over; } }
