//! Relays at their limits: viewers per core, a CPU that others use too, and more traffic than fits.

use std::time::Duration;

use anyhow::Result;

use super::relay::Traffic;
use crate::case::{Case, higher, lower};
use crate::network::Host;
use crate::process::Process;
use crate::relays::{RelayProgram, Relays};

/// The latest that the hundredth part of the frames may be for a viewer to count.
const LATE: f64 = 100.0;

pub(crate) fn cases(quick: bool, relays: &Relays) -> Vec<Case> {
    if relays.sides().is_empty() {
        return Vec::new();
    }
    let mut capacity =
        Case::new("stress/viewers", [higher("a-core", "viewers"), higher("most", "viewers")]);
    for (name, program) in relays.sides() {
        capacity = capacity.side(name, move || viewers_a_core(&program, quick));
    }
    let mut cases = vec![capacity];
    let loads: &[(f64, usize)] =
        if quick { &[(20.0, 1)] } else { &[(20.0, 3), (50.0, 3), (50.0, 2)] };
    for (mbps, busy) in loads {
        let metrics = [
            higher("goodput", "Mbit/s"),
            lower("p50", "ms"),
            lower("p99", "ms"),
            lower("cpu", "s/GB"),
            lower("cpu-by-idle", "x"),
        ];
        let mut case = Case::new(format!("stress/busy-{busy}/{mbps}"), metrics);
        for (name, program) in relays.sides() {
            case = case.side(name, move || overload(&program, *mbps, *busy, quick));
        }
        cases.push(case);
    }
    let mut saturated = Case::new("stress/twice-the-capacity", [higher("goodput", "x")]);
    for (name, program) in relays.sides() {
        saturated = saturated.side(name, move || past_saturation(&program, quick));
    }
    cases.push(saturated);
    cases
}

/// Viewers of 10 Mbit/s: more and more of them, as long as frames are in time and all of them arrive.
fn viewers_a_core(program: &RelayProgram, quick: bool) -> Result<Vec<f64>> {
    let mut best = [f64::NAN, 0.0];
    for viewers in if quick { &[2][..] } else { &[20, 30, 45, 70, 100, 150] } {
        let relayed = Traffic::new(*viewers, Some(10.0), quick).run(program)?;
        let offered = 10.0 * *viewers as f64;
        if relayed.viewed.video.p99 > LATE || relayed.goodput() < 0.97 * offered {
            break;
        }
        best = [*viewers as f64 / relayed.cores(), *viewers as f64];
    }
    Ok(best.to_vec())
}

/// Groups of 5.8 ms at 50 Mbit/s, viewers that want nothing older than 300 ms, and processes that do nothing but use
/// the CPU. The CPU time by GB is also that by the same traffic on the idle machine.
fn overload(program: &RelayProgram, mbps: f64, busy: usize, quick: bool) -> Result<Vec<f64>> {
    let viewers = if quick { 2 } else { 10 };
    let mut traffic = Traffic::new(viewers, Some(mbps), quick);
    traffic.max_age = Duration::from_millis(300);
    let idle = traffic.run(program)?.cpu_per_gb();
    let busy = (0..busy).map(|_| Process::role(&Host::loopback(), &["busy".into()]));
    let _busy = busy.collect::<Result<Vec<_>>>()?;
    let relayed = traffic.run(program)?;
    let (video, cpu) = (&relayed.viewed.video, relayed.cpu_per_gb());
    Ok(vec![relayed.goodput(), video.p50, video.p99, cpu, cpu / idle])
}

/// Goodput when twice as much is offered as can be delivered, by the goodput without a rate.
fn past_saturation(program: &RelayProgram, quick: bool) -> Result<Vec<f64>> {
    let viewers = if quick { 2 } else { 10 };
    let capacity = Traffic::new(viewers, None, quick).run(program)?.goodput();
    let mut traffic = Traffic::new(viewers, Some(2.0 * capacity / viewers as f64), quick);
    traffic.max_age = Duration::from_millis(300);
    Ok(vec![traffic.run(program)?.goodput() / capacity])
}
