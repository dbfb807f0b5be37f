//! The cost of relays and the age of frames, with publisher and viewers in other processes.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::SIZE;
use crate::case::{Case, higher, lower};
use crate::load::view::Viewed;
use crate::network::{Host, Link, Network};
use crate::process::{Process, cpu, resident};
use crate::relays::{RelayProgram, Relays};

/// A publisher and its viewers at a relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) viewers: usize,
    /// Mbit/s to each viewer; `None`: as fast as they read.
    pub(crate) mbps: Option<f64>,
    /// Bytes of a frame.
    pub(crate) size: usize,
    /// Frames of a group.
    pub(crate) group: u64,
    pub(crate) max_age: Duration,
    /// With a second track, which is more urgent.
    pub(crate) urgent: bool,
    /// Between relay and viewers; `None`: everything is on this machine.
    pub(crate) link: Option<Link>,
    /// Viewers reach the relay by a path of 20 ms in each direction that loses so many of a thousand packets to them.
    pub(crate) far: Option<u64>,
    /// Publisher and viewers reach the relay by WebSockets with TLS instead of QUIC.
    pub(crate) wss: bool,
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
}

/// The work of a relay with the traffic.
#[derive(Clone, Debug)]
pub(crate) struct Relayed {
    pub(crate) viewed: Viewed,
    pub(crate) cpu: Duration,
    pub(crate) resident_kib: f64,
}

impl Relayed {
    /// CPU seconds of the relay per GB delivered.
    pub(crate) fn cpu_per_gb(&self) -> f64 {
        self.cpu.as_secs_f64() / (self.viewed.video.bytes as f64 * 1e-9)
    }

    /// Mbit/s to all viewers together.
    pub(crate) fn goodput(&self) -> f64 {
        self.viewed.video.bytes as f64 * 8e-6 / self.viewed.seconds
    }

    /// Cores that the relay kept busy.
    pub(crate) fn cores(&self) -> f64 {
        self.cpu.as_secs_f64() / self.viewed.seconds
    }
}

impl Traffic {
    pub(crate) fn new(viewers: usize, mbps: Option<f64>, quick: bool) -> Self {
        let (warm_up, time) = if quick { (50, 200) } else { (1_000, 4_000) };
        Self {
            viewers,
            mbps,
            size: SIZE,
            group: super::FRAMES,
            max_age: Duration::from_secs(10),
            urgent: false,
            link: None,
            far: None,
            wss: false,
            warm_up: Duration::from_millis(warm_up),
            time: Duration::from_millis(time),
        }
    }

    /// Starts relay, publisher and viewers, and ends them after the measured time.
    pub(crate) fn run(&self, program: &RelayProgram) -> Result<Relayed> {
        let network = self.link.map(Network::new).transpose()?;
        let (at_relay, at_viewers) = match &network {
            Some(network) => (network.relay.clone(), network.viewers.clone()),
            None => (Host::loopback(), Host::loopback()),
        };
        let relay = program.start(&at_relay)?;
        let urgent = self.urgent.then(|| "--urgent".to_owned());
        let wss = self.wss.then(|| "--wss".to_owned());
        let mut arguments = vec![
            "publish".into(),
            format!("--relay={}", relay.addr),
            format!("--mbps={}", self.mbps.unwrap_or(0.0)),
            format!("--size={}", self.size),
            format!("--group={}", self.group),
        ];
        arguments.extend(urgent.iter().chain(&wss).cloned());
        let mut publisher = Process::role(&at_relay, &arguments)?;
        let progress = publisher.line()?;
        let far = self.far.map(|losses| {
            let arguments =
                ["far".into(), format!("--relay={}", relay.addr), format!("--losses={losses}")];
            Process::role(&at_relay, &arguments)
        });
        let mut far = far.transpose()?;
        let addr = match &mut far {
            Some(far) => far.line()?,
            None => relay.addr.to_string(),
        };
        let mut arguments = vec![
            "view".into(),
            format!("--relay={addr}"),
            format!("--viewers={}", self.viewers),
            format!("--max-age-ms={}", self.max_age.as_millis()),
        ];
        arguments.extend(urgent.into_iter().chain(wss));
        if self.mbps.is_none() {
            arguments.push(format!("--progress={progress}"));
        }
        let mut viewers = Process::role(&at_viewers, &arguments)?;
        anyhow::ensure!(viewers.line()? == "ready", "the viewers are not ready");
        thread::sleep(self.warm_up);
        let before = cpu(relay.process.id());
        viewers.tell("start")?;
        thread::sleep(self.time);
        let cpu = cpu(relay.process.id()) - before;
        viewers.tell("stop")?;
        let viewed = serde_json::from_str(&viewers.line()?)?;
        Ok(Relayed { viewed, cpu, resident_kib: resident(relay.process.id())? })
    }
}

pub(crate) fn cases(quick: bool, relays: &Relays) -> Vec<Case> {
    let mut cases = Vec::new();
    if relays.sides().is_empty() {
        return cases;
    }
    // 50 Mbit/s to each viewer.
    for viewers in if quick { &[2][..] } else { &[1, 10] } {
        let traffic = Traffic::new(*viewers, Some(50.0), quick);
        cases.push(case(format!("relay/paced-50/{viewers}"), traffic, quick, relays));
    }
    // 50 Mbit/s to all viewers together.
    for viewers in if quick { &[][..] } else { &[10, 50] } {
        let mbps = 50.0 / *viewers as f64;
        let traffic = Traffic::new(*viewers, Some(mbps), quick);
        cases.push(case(format!("relay/total-50/{viewers}"), traffic, quick, relays));
    }
    for viewers in if quick { &[2][..] } else { &[1, 10, 50] } {
        let traffic = Traffic::new(*viewers, None, quick);
        cases.push(case(format!("relay/unlimited/{viewers}"), traffic, quick, relays));
    }
    let viewers = if quick { 2 } else { 10 };
    for (name, mbps) in [("paced-50", Some(50.0)), ("unlimited", None)] {
        let traffic = Traffic { wss: true, ..Traffic::new(viewers, mbps, quick) };
        cases.push(case(format!("relay/wss/{name}/{viewers}"), traffic, quick, relays));
    }
    cases
}

fn case(name: String, traffic: Traffic, quick: bool, relays: &Relays) -> Case {
    let metrics = [
        lower("cpu", "s/GB"),
        higher("goodput", "Mbit/s"),
        lower("p50", "ms"),
        lower("p99", "ms"),
        lower("memory", "KiB"),
    ];
    let mut case = Case::new(name, metrics);
    for (name, program) in relays.sides() {
        case = case.side(name, move || {
            let relayed = traffic.run(&program)?;
            let video = &relayed.viewed.video;
            let (p50, p99) = (video.p50, video.p99);
            Ok(vec![relayed.cpu_per_gb(), relayed.goodput(), p50, p99, relayed.resident_kib])
        });
    }
    if traffic.mbps.is_none() && !traffic.wss {
        // The cost of QUIC itself on one side. A relay has one side to the publisher and one to each viewer.
        let none = f64::NAN;
        case = case
            .side("quinn", move || Ok(vec![super::quic::floor(quick)?, none, none, none, none]));
    }
    case
}
