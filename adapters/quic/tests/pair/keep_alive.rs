//! An idle connection: which side keeps it alive.

use std::sync::Arc;
use std::time::Duration;

use smoq_quic::config;
use smoq_quic::quinn_proto::{ClientConfig, ServerConfig};

use crate::{End, Pair, Path, configs};

const LATENCY: Duration = Duration::from_millis(10);

/// The PINGs that a client and a server send in a minute, after a minute, on a connection without other traffic.
fn pings_of_a_minute(client: ClientConfig, server: ServerConfig) -> (u64, u64) {
    let pings = |end: &mut End| end.connection().map_or(0, |it| it.stats().frame_tx.ping);
    let mut pair = Pair::new(client, server, [(); 2].map(|()| Path::new(LATENCY)));
    let mut minute = || {
        let end = pair.now + Duration::from_secs(60);
        while pair.now < end {
            pair.step();
        }
        (pings(&mut pair.client), pings(&mut pair.server))
    };
    let (first, both) = (minute(), minute());
    (both.0 - first.0, both.1 - first.1)
}

#[test]
fn the_client_keeps_an_idle_connection_alive_and_the_server_only_answers() {
    let (client, server) = configs();
    let (by_client, by_server) = pings_of_a_minute(client, server);
    assert_eq!(by_server, 0);
    let at_most = 60 / config::KEEP_ALIVE.as_secs();
    assert!((at_most - 1..=at_most).contains(&by_client), "{by_client}");
}

#[test]
fn the_server_keeps_the_connection_of_a_silent_client_alive() {
    let (mut client, server) = configs();
    let mut silent = config::transport();
    silent.keep_alive_interval(None);
    client.transport_config(Arc::new(silent));
    let (by_client, by_server) = pings_of_a_minute(client, server);
    assert_eq!(by_client, 0);
    let at_most = 60 / config::SERVER_KEEP_ALIVE.as_secs();
    assert!((at_most - 1..=at_most).contains(&by_server), "{by_server}");
}
