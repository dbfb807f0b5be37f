//! PROBE: the publisher's estimates of the path to its subscriber (moq-lite-06, 5.1.5; from 03 on).
//!
//! This end as subscriber writes the type of the stream and nothing more, and publishers write PROBE
//! messages. Either side may end the stream, and then it is not opened again. We report at level
//! Report: only values that QUIC measures anyway, without padding to measure more (7.3.1).

use core::time::Duration;

use super::roles::{ProbeReports, ProbeRequest, Role};
use super::session::Lite;
use crate::coding::lite::{BiStream, Features, Probe, Setup};
use crate::coding::varint;
use crate::error::{Error, LimitKind};
use crate::machine::engine::{Core, Dialect, Progress, Timer};
use crate::machine::event::Event;
use crate::machine::network_path::{NetworkPath, PathEstimate};
use crate::slab::Key;
use crate::time::Instant;

/// The shortest interval between two reports. Changes in between are coalesced into one report.
const SHORTEST: Duration = Duration::from_millis(100);
/// A report is repeated after this time even if nothing changed, so that a subscriber can tell a
/// steady path from a publisher that stopped reporting.
const LONGEST: Duration = Duration::from_secs(10);

// ---- as publisher ----------------------------------------------------------------------------

impl ProbeReports {
    /// When `news` should be reported; `None` if there is nothing to report.
    fn due(&self, news: &Probe, now: Instant) -> Option<Instant> {
        let is_known = *news != Probe::default();
        let Some((at, last)) = &self.last else { return is_known.then_some(now) };
        // That nothing is known any more is reported once.
        (is_known || news != last).then(|| *at + report_interval(last, news))
    }
}

/// How long after `last` the report `news` is due. A change by a quarter or more is reported after
/// the shortest interval. A smaller change of the bitrate waits the longer, the smaller it is; a
/// smaller change of the round-trip time goes out with the next report.
fn report_interval(last: &Probe, news: &Probe) -> Duration {
    let millis = |rtt: Option<Duration>| rtt.map(|rtt| rtt.as_millis());
    if quarters(millis(last.rtt), millis(news.rtt), 1) == 1 {
        return SHORTEST;
    }
    let decay = LONGEST - SHORTEST;
    let bits = |bitrate: Option<u64>| bitrate.map(u128::from);
    let saved = quarters(bits(last.bitrate), bits(news.bitrate), decay.as_micros());
    LONGEST - Duration::from_micros(u64::try_from(saved).unwrap_or(u64::MAX)).min(decay)
}

/// How much of a quarter a value changed by, at most the whole quarter, in parts of `whole`. A value that
/// appeared or disappeared counts as changed by a quarter.
fn quarters(before: Option<u128>, now: Option<u128>, whole: u128) -> u128 {
    match (before, now) {
        (Some(before), Some(now)) => (before.abs_diff(now) * 4 * whole / before.max(1)).min(whole),
        (None, None) => 0,
        _ => whole,
    }
}

/// The estimates of the path that the version can report. A measured 0 is written as 1, because 0 means unknown.
fn report(path: &NetworkPath, features: &Features) -> Probe {
    let millis = |rtt: Duration| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX);
    Probe {
        bitrate: path.bitrate.map(|bits| bits.clamp(1, varint::MAX)),
        rtt: path.rtt.filter(|_| features.rtt).map(|it| Duration::from_millis(millis(it).max(1))),
    }
}

impl Lite {
    /// The peer opened a Probe stream. A second one would carry the same reports and is refused.
    pub(super) fn on_probe_request(
        &mut self,
        core: &mut Core,
        key: Key,
        type_len: usize,
    ) -> Result<Progress, Error> {
        if core.state.is_ending() {
            return Err(Error::GoingAway);
        }
        if self.reports.is_some() {
            return Err(Error::Limit(LimitKind::ProbeStreams));
        }
        if let Some(request) = core.requests.get(key) {
            request.recv.skip(type_len);
        }
        self.reports = Some(ProbeReports { request: key, last: None, timer: None });
        self.set_role(key, Role::ProbeReports);
        self.schedule_report(core);
        Ok(Progress::More)
    }

    /// The path changed, or a report is due: queues a report, or sets the timer for it. A report
    /// that QUIC has not taken yet is replaced by the next one, see [`Lite::fill_probe_reports`].
    pub(super) fn schedule_report(&mut self, core: &mut Core) {
        let Some(reports) = &mut self.reports else { return };
        if let Some(at) = reports.timer.take() {
            core.timers.unset(at, Timer::Probe);
        }
        match reports.due(&report(&core.network_path, self.features), core.now) {
            Some(at) if at <= core.now => core.requests.queue_write(reports.request),
            Some(at) => {
                core.timers.set(at, Timer::Probe);
                reports.timer = Some(at);
            }
            None => {}
        }
    }

    /// QUIC can take bytes: writes the report that is due, unless the previous one is still unsent.
    /// A slow peer so gets the newest values and no backlog.
    pub(super) fn fill_probe_reports(&mut self, core: &mut Core, key: Key) {
        let Some(reports) = &mut self.reports else { return };
        let news = report(&core.network_path, self.features);
        let is_due = reports.due(&news, core.now).is_some_and(|at| at <= core.now);
        // QUIC holds an older report still. It is asked again when that is out.
        if !is_due || core.requests.unsent(key) > 0 {
            return;
        }
        let version = self.version;
        core.requests.write(key, |out| news.encode(out, version).expect("was made to fit"));
        reports.last = Some((core.now, news));
        self.schedule_report(core);
    }

    /// Reads PROBE of the subscriber, a target for padding, which level Report does not offer (5.1.5, 7.3.1). FIN or a
    /// reset ends the reports.
    pub(super) fn read_probe_reports(&mut self, core: &mut Core, key: Key) -> Progress {
        let stopped = core.requests.abandoned(key);
        let is_fin = stopped.is_none() && core.requests.is_ended(key);
        let error = match stopped.map_or_else(|| self.read_estimate(core, key), Err) {
            Ok(Some(_)) => return Progress::More,
            Ok(None) => return Progress::Wait,
            Err(error) => error,
        };
        let timer = self.reports.take().and_then(|reports| reports.timer);
        timer.inspect(|at| core.timers.unset(*at, Timer::Probe));
        match is_fin {
            true => self.finish(core, key),
            false => self.cancel(core, key, &error),
        }
        Progress::Wait
    }
}

// ---- as subscriber ---------------------------------------------------------------------------

impl Lite {
    /// The application wants estimates.
    pub(super) fn probe(&mut self, core: &mut Core) {
        if let Some(error) = self.probe.over.clone() {
            return core.notices.push_back(Event::ProbeEnded { error });
        }
        self.probe.wanted = true;
        self.open_probe(core);
    }

    /// Opens the Probe stream, as soon as it is known that the peer can report, and the previous
    /// stream is over.
    pub(super) fn open_probe(&mut self, core: &mut Core) {
        if !self.probe.wanted || self.probe.request.is_some() {
            return;
        }
        // From 05 on the level in SETUP must be looked at first (7.3.1). On 03 and 04 there is no SETUP, and
        // a peer that can't report ends the stream.
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
        self.set_role(key, Role::Probe);
        self.probe.request = Some(key);
    }

    /// The application wants no more estimates. A stream that has not opened is withdrawn, an open
    /// one is finished.
    pub(super) fn unprobe(&mut self, core: &mut Core) {
        self.probe.wanted = false;
        let Some(key) = self.probe.request else { return };
        if core.requests.withdraw(key) {
            self.roles.remove(key);
            self.probe.request = None;
        } else if matches!(self.roles.get(key), Some(Role::Probe)) {
            core.requests.finish(key);
            core.requests.queue_read(key);
            self.set_role(key, Role::EndedProbe);
        }
    }

    /// The peer can't or does not want to report. It is not asked again in this session.
    fn probe_over(&mut self, error: Error) -> Error {
        self.probe = ProbeRequest { wanted: false, request: None, over: Some(error.clone()) };
        error
    }

    /// Reads the next estimate, or the end of the reports.
    pub(super) fn read_probe(&mut self, core: &mut Core, key: Key) -> Progress {
        let error = match self.read_estimate(core, key) {
            Ok(Some(estimate)) => return Progress::Event(Event::Estimate { estimate }),
            Ok(None) => return Progress::Wait,
            Err(error) => self.probe_over(error),
        };
        // A malformed report is answered by a reset, a regular end by FIN (4.3).
        match error {
            Error::Malformed(_) => self.cancel(core, key, &error),
            _ => self.finish(core, key),
        }
        Progress::Event(Event::ProbeEnded { error })
    }

    /// FIN without a reason means that the publisher can't report.
    fn read_estimate(&self, core: &mut Core, key: Key) -> Result<Option<PathEstimate>, Error> {
        let Some(body) = self.next_body(core, key, Error::Unsupported)? else { return Ok(None) };
        let Probe { bitrate, rtt } = Probe::decode_body(&body, self.version)?;
        Ok(Some(PathEstimate { bitrate, rtt }))
    }

    /// A stream that is not wanted any more. The next one opens only after its end, so that the
    /// peer never has two.
    pub(super) fn read_ended_probe(&mut self, core: &mut Core, key: Key) -> Progress {
        if core.retire(key) {
            self.roles.remove(key);
            self.probe.request = None;
            self.open_probe(core);
        }
        Progress::Wait
    }
}
