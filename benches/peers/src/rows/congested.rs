//! Relays whose link to the viewers carries less than is offered: how old frames are when they are read, and whether
//! an urgent track passes the others. These cases make networks of their own, and need root for that.

use std::time::Duration;

use anyhow::Result;

use super::relay::Traffic;
use crate::case::{Case, higher, lower};
use crate::network::{Link, Network};
use crate::relays::{RelayProgram, Relays};

/// Mbit/s to each of five viewers: 40 of 28 Mbit/s.
const MBPS: f64 = 8.0;
const VIEWERS: usize = 5;
/// Names, frames and oldest age of groups: 833 frames are one second, 28 are 33 ms.
const GROUPS: [(&str, u64, u64); 2] = [("1s", 833, 500), ("33ms", 28, 300)];

pub(crate) fn cases(quick: bool, relays: &Relays) -> Vec<Case> {
    let mut cases = Vec::new();
    if relays.sides().is_empty() {
        return cases;
    }
    if let Some(obstacle) = Network::obstacle() {
        eprintln!("the rows of congested links are left out: {obstacle}");
        return cases;
    }
    for link in [Link::Router, Link::Sender, Link::Loss] {
        // Loss does the same to groups of any length, and takes nobody's turn.
        let groups = if link == Link::Loss { &GROUPS[..1] } else { &GROUPS };
        for (length, group, max_age) in groups {
            let mut traffic = Traffic::new(VIEWERS, Some(MBPS), quick);
            traffic.group = *group;
            traffic.max_age = Duration::from_millis(*max_age);
            traffic.link = Some(link);
            if !quick {
                (traffic.warm_up, traffic.time) = (Duration::from_secs(2), Duration::from_secs(8));
            }
            let name = format!("congested/{}/{length}", link.name());
            cases.push(ages(&name, traffic, relays));
            if link != Link::Loss {
                cases.push(priorities(format!("{name}/urgent"), traffic, relays));
            }
        }
    }
    if quick {
        // One of each kind.
        let kept = ["congested/router/33ms", "congested/sender/33ms/urgent", "congested/loss/1s"];
        cases.retain(|case| kept.contains(&case.name.as_str()));
    }
    cases
}

/// How old frames are when they are read.
pub(super) fn ages(name: &str, traffic: Traffic, relays: &Relays) -> Case {
    let mut metrics = vec![
        lower("p50", "ms"),
        lower("p99", "ms"),
        higher("goodput", "Mbit/s"),
        lower("cpu", "s/GB"),
    ];
    // Long groups are too old before they are whole.
    let may_be_whole = traffic.group < 100;
    metrics.extend(may_be_whole.then(|| higher("whole-groups", "groups/s")));
    let mut case = Case::new(name, metrics);
    for (name, program) in relays.sides() {
        case = case.side(name, move || {
            let relayed = traffic.run(&program)?;
            let video = &relayed.viewed.video;
            let whole = video.whole_groups as f64 / relayed.viewed.seconds / VIEWERS as f64;
            let mut values = vec![video.p50, video.p99, relayed.goodput(), relayed.cpu_per_gb()];
            values.extend(may_be_whole.then_some(whole));
            Ok(values)
        });
    }
    case
}

/// How old the frames of a small urgent track are beside the others, also by their age when they have the link for
/// themselves.
fn priorities(name: String, traffic: Traffic, relays: &Relays) -> Case {
    let metrics = [
        lower("p50", "ms"),
        lower("p99", "ms"),
        lower("p50-by-alone", "x"),
        lower("p99-by-alone", "x"),
    ];
    let mut case = Case::new(name, metrics);
    for (name, program) in relays.sides() {
        case = case.side(name, move || urgent(&program, traffic));
    }
    case
}

fn urgent(program: &RelayProgram, mut traffic: Traffic) -> Result<Vec<f64>> {
    // 50 frames of 200 bytes a second, as those of the urgent track.
    let mut alone = traffic;
    (alone.mbps, alone.size, alone.group) = (Some(0.08), 200, 1);
    let alone = alone.run(program)?.viewed.video;
    traffic.urgent = true;
    let beside = traffic.run(program)?.viewed.urgent;
    Ok(vec![beside.p50, beside.p99, beside.p50 / alone.p50, beside.p99 / alone.p99])
}
