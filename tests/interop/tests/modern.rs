//! Features of moq-lite 05: FETCH, datagrams, SUBSCRIBE_UPDATE, and subscriptions that move to another
//! session, between smoq and moq-net, each of them as publisher, relay and subscriber, in 05, 06 and 07; FETCH
//! and datagrams in moq-transport 14 to 22 as well.
//! Also GOAWAY, which 04 and moq-transport have as well, and PROBE, which exists since 03.

use smoq_interop::{
    peers::{net03, smoq_blocking, smoq_quinn},
    suite as suite_all, suite_modern as suite, tests,
};

macro_rules! modern {
    ($($name:ident: $p:ident, $up:literal, $r:ident, $s:ident, $down:literal;)*) => {$(
        mod $name {
            use super::*;
            tests! {
                fetches: suite::fetches::<$p::Peer, $r::Peer, $s::Peer>($up, $down);
                datagrams: suite::datagrams::<$p::Peer, $r::Peer, $s::Peer>($up, $down);
                updates: suite::updates::<$p::Peer, $r::Peer, $s::Peer>($up, $down);
            }
        }
    )*};
}

modern! {
    net03_smoq_quinn_net03_05: net03, "moq-lite-05", smoq_quinn, net03, "moq-lite-05";
    net03_smoq_quinn_net03_06: net03, "moq-lite-06", smoq_quinn, net03, "moq-lite-06";
    net03_smoq_blocking_net03_05: net03, "moq-lite-05", smoq_blocking, net03, "moq-lite-05";
    net03_smoq_blocking_net03_06: net03, "moq-lite-06", smoq_blocking, net03, "moq-lite-06";
    net03_smoq_quinn_net03_05_07: net03, "moq-lite-05", smoq_quinn, net03, "moq-lite-07-wip";
    net03_smoq_blocking_net03_07_06: net03, "moq-lite-07-wip", smoq_blocking, net03, "moq-lite-06";
    smoq_quinn_net03_smoq_quinn_05: smoq_quinn, "moq-lite-05", net03, smoq_quinn, "moq-lite-05";
    smoq_blocking_net03_smoq_blocking_06: smoq_blocking, "moq-lite-06", net03, smoq_blocking, "moq-lite-06";
    smoq_quinn_net03_smoq_blocking_07: smoq_quinn, "moq-lite-07-wip", net03, smoq_blocking, "moq-lite-07-wip";
    net03_smoq_blocking_smoq_quinn_06: net03, "moq-lite-06", smoq_blocking, smoq_quinn, "moq-lite-06";
    smoq_blocking_smoq_quinn_net03_06: smoq_blocking, "moq-lite-06", smoq_quinn, net03, "moq-lite-06";
    smoq_quinn_smoq_blocking_net03_05: smoq_quinn, "moq-lite-05", smoq_blocking, net03, "moq-lite-05";
}

/// The features of these that moq-transport has as well.
macro_rules! drafts {
    ($($name:ident: $p:ident, $up:literal, $r:ident, $s:ident, $down:literal;)*) => {$(
        mod $name {
            use super::*;
            tests! {
                fetches: suite::fetches::<$p::Peer, $r::Peer, $s::Peer>($up, $down);
                datagrams: suite::datagrams::<$p::Peer, $r::Peer, $s::Peer>($up, $down);
            }
        }
    )*};
}

drafts! {
    net03_smoq_quinn_net03_14: net03, "moqt-14", smoq_quinn, net03, "moqt-14";
    net03_smoq_blocking_net03_15: net03, "moqt-15", smoq_blocking, net03, "moqt-15";
    net03_smoq_quinn_net03_16: net03, "moqt-16", smoq_quinn, net03, "moqt-16";
    net03_smoq_blocking_net03_17: net03, "moqt-17", smoq_blocking, net03, "moqt-17";
    net03_smoq_quinn_net03_18: net03, "moqt-18", smoq_quinn, net03, "moqt-18";
    net03_smoq_blocking_net03_19: net03, "moqt-19", smoq_blocking, net03, "moqt-19";
    net03_smoq_quinn_net03_20: net03, "moqt-20", smoq_quinn, net03, "moqt-20";
    net03_smoq_blocking_net03_21: net03, "moqt-21", smoq_blocking, net03, "moqt-21";
    net03_smoq_quinn_net03_22: net03, "moqt-22", smoq_quinn, net03, "moqt-22";
    net03_smoq_blocking_net03_06_22: net03, "moq-lite-06", smoq_blocking, net03, "moqt-22";
    net03_smoq_quinn_net03_18_05: net03, "moqt-18", smoq_quinn, net03, "moq-lite-05";
}

// A datagram that overtakes SUBSCRIBE_OK at a relay of moq-net is lost.
tests! {
    smoq_quinn_is_fetched_from_by_net03_in_16:
        suite::fetches::<smoq_quinn::Peer, net03::Peer, smoq_blocking::Peer>("moqt-16", "moqt-16");
    smoq_blocking_is_fetched_from_by_net03_in_22:
        suite::fetches::<smoq_blocking::Peer, net03::Peer, smoq_quinn::Peer>("moqt-22", "moqt-22");
}

tests! {
    everybody_at_a_relay_of_smoq_quinn: suite_all::everybody::<smoq_quinn::Peer>();
    everybody_at_a_relay_of_smoq_blocking: suite_all::everybody::<smoq_blocking::Peer>();
}

tests! {
    net03_survives_relays_of_smoq_quinn_in_05:
        suite::failover::<net03::Peer, smoq_quinn::Peer, net03::Peer>("moq-lite-05");
    net03_survives_relays_of_smoq_quinn_in_06:
        suite::failover::<net03::Peer, smoq_quinn::Peer, net03::Peer>("moq-lite-06");
    net03_survives_relays_of_smoq_blocking_in_06:
        suite::failover::<net03::Peer, smoq_blocking::Peer, net03::Peer>("moq-lite-06");
    smoq_quinn_survives_relays_of_net03_in_05:
        suite::failover::<smoq_quinn::Peer, net03::Peer, smoq_quinn::Peer>("moq-lite-05");
    smoq_quinn_survives_relays_of_net03_in_06:
        suite::failover::<smoq_quinn::Peer, net03::Peer, smoq_quinn::Peer>("moq-lite-06");
    smoq_blocking_survives_relays_of_net03_in_06:
        suite::failover::<smoq_blocking::Peer, net03::Peer, smoq_blocking::Peer>("moq-lite-06");
    smoq_blocking_survives_relays_of_smoq_quinn_in_07:
        suite::failover::<net03::Peer, smoq_quinn::Peer, smoq_blocking::Peer>("moq-lite-07-wip");
}

tests! {
    net03_sends_smoq_quinn_away_in_04: suite::goes_away::<net03::Peer, smoq_quinn::Peer>("moq-lite-04");
    net03_sends_smoq_blocking_away_in_05: suite::goes_away::<net03::Peer, smoq_blocking::Peer>("moq-lite-05");
    net03_sends_smoq_quinn_away_in_06: suite::goes_away::<net03::Peer, smoq_quinn::Peer>("moq-lite-06");
    net03_sends_smoq_blocking_away_in_07: suite::goes_away::<net03::Peer, smoq_blocking::Peer>("moq-lite-07-wip");
    net03_sends_smoq_quinn_away_in_16: suite::goes_away::<net03::Peer, smoq_quinn::Peer>("moqt-16");
    net03_sends_smoq_blocking_away_in_18: suite::goes_away::<net03::Peer, smoq_blocking::Peer>("moqt-18");
    smoq_blocking_sends_net03_away_in_04: suite::goes_away::<smoq_blocking::Peer, net03::Peer>("moq-lite-04");
    smoq_quinn_sends_net03_away_in_05: suite::goes_away::<smoq_quinn::Peer, net03::Peer>("moq-lite-05");
    smoq_blocking_sends_net03_away_in_06: suite::goes_away::<smoq_blocking::Peer, net03::Peer>("moq-lite-06");
    smoq_quinn_sends_net03_away_in_07: suite::goes_away::<smoq_quinn::Peer, net03::Peer>("moq-lite-07-wip");
    smoq_blocking_sends_net03_away_in_16: suite::goes_away::<smoq_blocking::Peer, net03::Peer>("moqt-16");
    smoq_quinn_sends_net03_away_in_18: suite::goes_away::<smoq_quinn::Peer, net03::Peer>("moqt-18");
    smoq_quinn_sends_smoq_blocking_away_in_06:
        suite::goes_away::<smoq_quinn::Peer, smoq_blocking::Peer>("moq-lite-06");
}

tests! {
    smoq_quinn_asks_net03_of_the_path_in_03: suite::probes::<net03::Peer, smoq_quinn::Peer>("moq-lite-03");
    smoq_blocking_asks_net03_of_the_path_in_05: suite::probes::<net03::Peer, smoq_blocking::Peer>("moq-lite-05");
    smoq_quinn_asks_net03_of_the_path_in_06: suite::probes::<net03::Peer, smoq_quinn::Peer>("moq-lite-06");
    net03_asks_smoq_quinn_of_the_path_in_03: suite::probes::<smoq_quinn::Peer, net03::Peer>("moq-lite-03");
    net03_asks_smoq_blocking_of_the_path_in_04: suite::probes::<smoq_blocking::Peer, net03::Peer>("moq-lite-04");
    net03_asks_smoq_quinn_of_the_path_in_06: suite::probes::<smoq_quinn::Peer, net03::Peer>("moq-lite-06");
    net03_asks_smoq_blocking_of_the_path_in_07:
        suite::probes::<smoq_blocking::Peer, net03::Peer>("moq-lite-07-wip");
}
