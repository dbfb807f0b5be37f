//! Idle connections at a relay, on raw QUIC or on WebSockets with TLS: resident memory per connection, and CPU.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::case::{Case, lower};
use crate::network::Host;
use crate::process::{Process, cpu, resident};
use crate::relays::{RelayProgram, Relays};

pub(crate) fn cases(quick: bool, relays: &Relays) -> Vec<Case> {
    let mut cases = Vec::new();
    let sides = relays.sides();
    let Some((ours, program)) = sides.first().cloned() else { return cases };
    let metrics = [lower("memory", "KiB/connection"), lower("cpu", "%core")];
    let (few, time) = if quick { (10, 200) } else { (200, 10_000) };
    let time = Duration::from_millis(time);
    for (wss, carrier) in [(false, ""), (true, "wss/")] {
        let mut case = Case::new(format!("idle/{carrier}{few}"), metrics);
        for (name, program) in sides.clone() {
            case = case.side(name, move || hold(&program, wss, few, time));
        }
        cases.push(case);
    }
    if !quick {
        let case = Case::new("idle/10000", metrics);
        cases.push(case.side(ours, move || hold(&program, false, 10_000, time)));
    }
    cases
}

fn hold(program: &RelayProgram, wss: bool, connections: usize, time: Duration) -> Result<Vec<f64>> {
    let host = Host::loopback();
    let relay = program.start(&host)?;
    let id = relay.process.id();
    let mut arguments = vec![
        "idle".into(),
        format!("--relay={}", relay.addr),
        format!("--connections={connections}"),
    ];
    arguments.extend(wss.then(|| "--wss".to_owned()));
    let mut clients = Process::role(&host, &arguments)?;
    ensure!(clients.line()? == "first", "no connection");
    thread::sleep(time.min(Duration::from_millis(500)));
    let before = resident(id)?;
    clients.tell("more")?;
    ensure!(clients.line()? == "all", "not all connections");
    // Handshakes end.
    thread::sleep(time.min(Duration::from_secs(2)));
    let used = resident(id)? - before;
    let begun = cpu(id);
    thread::sleep(time);
    let busy = (cpu(id) - begun).as_secs_f64() / time.as_secs_f64();
    Ok(vec![used / connections as f64, busy * 100.0])
}
