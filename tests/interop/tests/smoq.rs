//! smoq with the published peers and with itself, with both adapters.

use smoq_interop::{
    closes, direct, matrix,
    peers::{lite016, net03, smoq_blocking, smoq_quinn},
    relays, suite, tests,
};

const LITE: [&str; 4] = ["moq-lite-06", "moq-lite-05", "moq-lite-04", "moq-lite-03"];
const OLD: [&str; 2] = ["moq-lite-03", "moq-lite-04"];
const MOQL: [&str; 2] = ["moq-lite-02", "moq-lite-01"];

tests! {
    versions_are_agreed_on_with_an_old_client:
        suite::negotiation::<lite016::Peer, smoq_quinn::Peer>(&OLD, &LITE, "moq-lite-04");
    versions_are_agreed_on_with_an_old_server:
        suite::negotiation::<smoq_blocking::Peer, lite016::Peer>(&["moq-lite-03"], &OLD, "moq-lite-03");
    versions_are_agreed_on_with_a_new_client:
        suite::negotiation::<net03::Peer, smoq_blocking::Peer>(&LITE[1..3], &LITE, "moq-lite-05");
    versions_are_agreed_on_with_a_new_server:
        suite::negotiation::<smoq_quinn::Peer, net03::Peer>(&LITE[..2], &LITE, "moq-lite-06");
    versions_are_settled_on_with_an_old_client:
        suite::negotiation::<lite016::Peer, smoq_quinn::Peer>(&MOQL, &["moq-lite-01"], "moq-lite-01");
    versions_are_settled_on_with_an_old_server:
        suite::negotiation::<smoq_blocking::Peer, lite016::Peer>(&MOQL, &MOQL, "moq-lite-02");
    versions_are_settled_on_with_a_new_client:
        suite::negotiation::<net03::Peer, smoq_blocking::Peer>(&MOQL, &["moq-lite-01"], "moq-lite-01");
    versions_are_settled_on_with_a_new_server:
        suite::negotiation::<smoq_quinn::Peer, net03::Peer>(&MOQL, &MOQL, "moq-lite-02");
}

// Versions that few peers speak: each peer in both directions, with one of the adapters.
matrix! {
    lite016_to_smoq_blocking_in_01: lite016, smoq_blocking, "moq-lite-01";
    lite016_to_smoq_quinn_in_02: lite016, smoq_quinn, "moq-lite-02";
    smoq_blocking_to_net03_in_01: smoq_blocking, net03, "moq-lite-01";
    smoq_quinn_to_net03_in_02: smoq_quinn, net03, "moq-lite-02";
    smoq_quinn_to_net03_in_07: smoq_quinn, net03, "moq-lite-07-wip";
    smoq_blocking_to_net03_in_07: smoq_blocking, net03, "moq-lite-07-wip";
    net03_to_smoq_quinn_in_01: net03, smoq_quinn, "moq-lite-01";
    net03_to_smoq_blocking_in_02: net03, smoq_blocking, "moq-lite-02";
    net03_to_smoq_quinn_in_07: net03, smoq_quinn, "moq-lite-07-wip";
    net03_to_smoq_blocking_in_07: net03, smoq_blocking, "moq-lite-07-wip";
}

// moq-lite 0.16 is not tested with others at a relay in 01 and 02: it announces back what the relay
// announced, and without hops that is a valid route.
direct! {
    smoq_quinn_to_lite016_in_01: smoq_quinn, lite016, "moq-lite-01";
    smoq_blocking_to_lite016_in_02: smoq_blocking, lite016, "moq-lite-02";
}
tests! {
    smoq_quinn_to_a_relay_of_lite016_in_01:
        suite::relay::<smoq_quinn::Peer, lite016::Peer, lite016::Peer>("moq-lite-01", "moq-lite-01");
    smoq_blocking_to_a_relay_of_lite016_in_02:
        suite::relay::<smoq_blocking::Peer, lite016::Peer, lite016::Peer>("moq-lite-02", "moq-lite-02");
}

// From one end of the table to the other.
relays! {
    lite016_01_smoq_quinn_net03_07: lite016, "moq-lite-01", smoq_quinn, net03, "moq-lite-07-wip";
    net03_07_smoq_quinn_lite016_01: net03, "moq-lite-07-wip", smoq_quinn, lite016, "moq-lite-01";
    net03_02_smoq_blocking_net03_07: net03, "moq-lite-02", smoq_blocking, net03, "moq-lite-07-wip";
    net03_07_smoq_blocking_net03_02: net03, "moq-lite-07-wip", smoq_blocking, net03, "moq-lite-02";
    net03_06_smoq_quinn_lite016_02: net03, "moq-lite-06", smoq_quinn, lite016, "moq-lite-02";
    lite016_02_smoq_blocking_net03_06: lite016, "moq-lite-02", smoq_blocking, net03, "moq-lite-06";
}

matrix! {
    smoq_quinn_to_smoq_quinn_in_03: smoq_quinn, smoq_quinn, "moq-lite-03";
    smoq_quinn_to_smoq_quinn_in_04: smoq_quinn, smoq_quinn, "moq-lite-04";
    smoq_quinn_to_smoq_quinn_in_05: smoq_quinn, smoq_quinn, "moq-lite-05";
    smoq_quinn_to_smoq_quinn_in_06: smoq_quinn, smoq_quinn, "moq-lite-06";
    smoq_quinn_to_smoq_blocking_in_03: smoq_quinn, smoq_blocking, "moq-lite-03";
    smoq_quinn_to_smoq_blocking_in_04: smoq_quinn, smoq_blocking, "moq-lite-04";
    smoq_quinn_to_smoq_blocking_in_05: smoq_quinn, smoq_blocking, "moq-lite-05";
    smoq_quinn_to_smoq_blocking_in_06: smoq_quinn, smoq_blocking, "moq-lite-06";
    smoq_blocking_to_smoq_quinn_in_03: smoq_blocking, smoq_quinn, "moq-lite-03";
    smoq_blocking_to_smoq_quinn_in_04: smoq_blocking, smoq_quinn, "moq-lite-04";
    smoq_blocking_to_smoq_quinn_in_05: smoq_blocking, smoq_quinn, "moq-lite-05";
    smoq_blocking_to_smoq_quinn_in_06: smoq_blocking, smoq_quinn, "moq-lite-06";
    smoq_blocking_to_smoq_blocking_in_03: smoq_blocking, smoq_blocking, "moq-lite-03";
    smoq_blocking_to_smoq_blocking_in_04: smoq_blocking, smoq_blocking, "moq-lite-04";
    smoq_blocking_to_smoq_blocking_in_05: smoq_blocking, smoq_blocking, "moq-lite-05";
    smoq_blocking_to_smoq_blocking_in_06: smoq_blocking, smoq_blocking, "moq-lite-06";
    smoq_quinn_to_lite016_in_03: smoq_quinn, lite016, "moq-lite-03";
    smoq_quinn_to_lite016_in_04: smoq_quinn, lite016, "moq-lite-04";
    smoq_quinn_to_net03_in_03: smoq_quinn, net03, "moq-lite-03";
    smoq_quinn_to_net03_in_04: smoq_quinn, net03, "moq-lite-04";
    smoq_quinn_to_net03_in_05: smoq_quinn, net03, "moq-lite-05";
    smoq_quinn_to_net03_in_06: smoq_quinn, net03, "moq-lite-06";
    lite016_to_smoq_quinn_in_03: lite016, smoq_quinn, "moq-lite-03";
    lite016_to_smoq_quinn_in_04: lite016, smoq_quinn, "moq-lite-04";
    net03_to_smoq_quinn_in_03: net03, smoq_quinn, "moq-lite-03";
    net03_to_smoq_quinn_in_04: net03, smoq_quinn, "moq-lite-04";
    net03_to_smoq_quinn_in_05: net03, smoq_quinn, "moq-lite-05";
    net03_to_smoq_quinn_in_06: net03, smoq_quinn, "moq-lite-06";
    smoq_blocking_to_lite016_in_03: smoq_blocking, lite016, "moq-lite-03";
    smoq_blocking_to_lite016_in_04: smoq_blocking, lite016, "moq-lite-04";
    smoq_blocking_to_net03_in_03: smoq_blocking, net03, "moq-lite-03";
    smoq_blocking_to_net03_in_04: smoq_blocking, net03, "moq-lite-04";
    smoq_blocking_to_net03_in_05: smoq_blocking, net03, "moq-lite-05";
    smoq_blocking_to_net03_in_06: smoq_blocking, net03, "moq-lite-06";
    lite016_to_smoq_blocking_in_03: lite016, smoq_blocking, "moq-lite-03";
    lite016_to_smoq_blocking_in_04: lite016, smoq_blocking, "moq-lite-04";
    net03_to_smoq_blocking_in_03: net03, smoq_blocking, "moq-lite-03";
    net03_to_smoq_blocking_in_04: net03, smoq_blocking, "moq-lite-04";
    net03_to_smoq_blocking_in_05: net03, smoq_blocking, "moq-lite-05";
    net03_to_smoq_blocking_in_06: net03, smoq_blocking, "moq-lite-06";
}

// Not to moq-lite 0.16, which drops unread data when the session closes.
closes! {
    smoq_quinn_net03_03: smoq_quinn, net03, "moq-lite-03";
    smoq_quinn_net03_04: smoq_quinn, net03, "moq-lite-04";
    smoq_quinn_net03_05: smoq_quinn, net03, "moq-lite-05";
    smoq_quinn_net03_06: smoq_quinn, net03, "moq-lite-06";
    smoq_quinn_smoq_blocking_04: smoq_quinn, smoq_blocking, "moq-lite-04";
    smoq_quinn_smoq_blocking_06: smoq_quinn, smoq_blocking, "moq-lite-06";
    smoq_blocking_net03_03: smoq_blocking, net03, "moq-lite-03";
    smoq_blocking_net03_04: smoq_blocking, net03, "moq-lite-04";
    smoq_blocking_net03_05: smoq_blocking, net03, "moq-lite-05";
    smoq_blocking_net03_06: smoq_blocking, net03, "moq-lite-06";
    smoq_blocking_smoq_quinn_04: smoq_blocking, smoq_quinn, "moq-lite-04";
    smoq_blocking_smoq_quinn_06: smoq_blocking, smoq_quinn, "moq-lite-06";
}

relays! {
    lite016_03_smoq_quinn_lite016_03: lite016, "moq-lite-03", smoq_quinn, lite016, "moq-lite-03";
    lite016_03_smoq_quinn_lite016_04: lite016, "moq-lite-03", smoq_quinn, lite016, "moq-lite-04";
    lite016_03_smoq_quinn_net03_03: lite016, "moq-lite-03", smoq_quinn, net03, "moq-lite-03";
    lite016_03_smoq_quinn_net03_04: lite016, "moq-lite-03", smoq_quinn, net03, "moq-lite-04";
    lite016_03_smoq_quinn_net03_05: lite016, "moq-lite-03", smoq_quinn, net03, "moq-lite-05";
    lite016_03_smoq_quinn_net03_06: lite016, "moq-lite-03", smoq_quinn, net03, "moq-lite-06";
    lite016_04_smoq_quinn_lite016_03: lite016, "moq-lite-04", smoq_quinn, lite016, "moq-lite-03";
    lite016_04_smoq_quinn_lite016_04: lite016, "moq-lite-04", smoq_quinn, lite016, "moq-lite-04";
    lite016_04_smoq_quinn_net03_03: lite016, "moq-lite-04", smoq_quinn, net03, "moq-lite-03";
    lite016_04_smoq_quinn_net03_04: lite016, "moq-lite-04", smoq_quinn, net03, "moq-lite-04";
    lite016_04_smoq_quinn_net03_05: lite016, "moq-lite-04", smoq_quinn, net03, "moq-lite-05";
    lite016_04_smoq_quinn_net03_06: lite016, "moq-lite-04", smoq_quinn, net03, "moq-lite-06";
    net03_03_smoq_quinn_lite016_03: net03, "moq-lite-03", smoq_quinn, lite016, "moq-lite-03";
    net03_03_smoq_quinn_lite016_04: net03, "moq-lite-03", smoq_quinn, lite016, "moq-lite-04";
    net03_03_smoq_quinn_net03_03: net03, "moq-lite-03", smoq_quinn, net03, "moq-lite-03";
    net03_03_smoq_quinn_net03_04: net03, "moq-lite-03", smoq_quinn, net03, "moq-lite-04";
    net03_03_smoq_quinn_net03_05: net03, "moq-lite-03", smoq_quinn, net03, "moq-lite-05";
    net03_03_smoq_quinn_net03_06: net03, "moq-lite-03", smoq_quinn, net03, "moq-lite-06";
    net03_04_smoq_quinn_lite016_03: net03, "moq-lite-04", smoq_quinn, lite016, "moq-lite-03";
    net03_04_smoq_quinn_lite016_04: net03, "moq-lite-04", smoq_quinn, lite016, "moq-lite-04";
    net03_04_smoq_quinn_net03_03: net03, "moq-lite-04", smoq_quinn, net03, "moq-lite-03";
    net03_04_smoq_quinn_net03_04: net03, "moq-lite-04", smoq_quinn, net03, "moq-lite-04";
    net03_04_smoq_quinn_net03_05: net03, "moq-lite-04", smoq_quinn, net03, "moq-lite-05";
    net03_04_smoq_quinn_net03_06: net03, "moq-lite-04", smoq_quinn, net03, "moq-lite-06";
    net03_05_smoq_quinn_lite016_03: net03, "moq-lite-05", smoq_quinn, lite016, "moq-lite-03";
    net03_05_smoq_quinn_lite016_04: net03, "moq-lite-05", smoq_quinn, lite016, "moq-lite-04";
    net03_05_smoq_quinn_net03_03: net03, "moq-lite-05", smoq_quinn, net03, "moq-lite-03";
    net03_05_smoq_quinn_net03_04: net03, "moq-lite-05", smoq_quinn, net03, "moq-lite-04";
    net03_05_smoq_quinn_net03_05: net03, "moq-lite-05", smoq_quinn, net03, "moq-lite-05";
    net03_05_smoq_quinn_net03_06: net03, "moq-lite-05", smoq_quinn, net03, "moq-lite-06";
    net03_06_smoq_quinn_lite016_03: net03, "moq-lite-06", smoq_quinn, lite016, "moq-lite-03";
    net03_06_smoq_quinn_lite016_04: net03, "moq-lite-06", smoq_quinn, lite016, "moq-lite-04";
    net03_06_smoq_quinn_net03_03: net03, "moq-lite-06", smoq_quinn, net03, "moq-lite-03";
    net03_06_smoq_quinn_net03_04: net03, "moq-lite-06", smoq_quinn, net03, "moq-lite-04";
    net03_06_smoq_quinn_net03_05: net03, "moq-lite-06", smoq_quinn, net03, "moq-lite-05";
    net03_06_smoq_quinn_net03_06: net03, "moq-lite-06", smoq_quinn, net03, "moq-lite-06";
    lite016_03_smoq_blocking_lite016_03: lite016, "moq-lite-03", smoq_blocking, lite016, "moq-lite-03";
    lite016_03_smoq_blocking_lite016_04: lite016, "moq-lite-03", smoq_blocking, lite016, "moq-lite-04";
    lite016_03_smoq_blocking_net03_03: lite016, "moq-lite-03", smoq_blocking, net03, "moq-lite-03";
    lite016_03_smoq_blocking_net03_04: lite016, "moq-lite-03", smoq_blocking, net03, "moq-lite-04";
    lite016_03_smoq_blocking_net03_05: lite016, "moq-lite-03", smoq_blocking, net03, "moq-lite-05";
    lite016_03_smoq_blocking_net03_06: lite016, "moq-lite-03", smoq_blocking, net03, "moq-lite-06";
    lite016_04_smoq_blocking_lite016_03: lite016, "moq-lite-04", smoq_blocking, lite016, "moq-lite-03";
    lite016_04_smoq_blocking_lite016_04: lite016, "moq-lite-04", smoq_blocking, lite016, "moq-lite-04";
    lite016_04_smoq_blocking_net03_03: lite016, "moq-lite-04", smoq_blocking, net03, "moq-lite-03";
    lite016_04_smoq_blocking_net03_04: lite016, "moq-lite-04", smoq_blocking, net03, "moq-lite-04";
    lite016_04_smoq_blocking_net03_05: lite016, "moq-lite-04", smoq_blocking, net03, "moq-lite-05";
    lite016_04_smoq_blocking_net03_06: lite016, "moq-lite-04", smoq_blocking, net03, "moq-lite-06";
    net03_03_smoq_blocking_lite016_03: net03, "moq-lite-03", smoq_blocking, lite016, "moq-lite-03";
    net03_03_smoq_blocking_lite016_04: net03, "moq-lite-03", smoq_blocking, lite016, "moq-lite-04";
    net03_03_smoq_blocking_net03_03: net03, "moq-lite-03", smoq_blocking, net03, "moq-lite-03";
    net03_03_smoq_blocking_net03_04: net03, "moq-lite-03", smoq_blocking, net03, "moq-lite-04";
    net03_03_smoq_blocking_net03_05: net03, "moq-lite-03", smoq_blocking, net03, "moq-lite-05";
    net03_03_smoq_blocking_net03_06: net03, "moq-lite-03", smoq_blocking, net03, "moq-lite-06";
    net03_04_smoq_blocking_lite016_03: net03, "moq-lite-04", smoq_blocking, lite016, "moq-lite-03";
    net03_04_smoq_blocking_lite016_04: net03, "moq-lite-04", smoq_blocking, lite016, "moq-lite-04";
    net03_04_smoq_blocking_net03_03: net03, "moq-lite-04", smoq_blocking, net03, "moq-lite-03";
    net03_04_smoq_blocking_net03_04: net03, "moq-lite-04", smoq_blocking, net03, "moq-lite-04";
    net03_04_smoq_blocking_net03_05: net03, "moq-lite-04", smoq_blocking, net03, "moq-lite-05";
    net03_04_smoq_blocking_net03_06: net03, "moq-lite-04", smoq_blocking, net03, "moq-lite-06";
    net03_05_smoq_blocking_lite016_03: net03, "moq-lite-05", smoq_blocking, lite016, "moq-lite-03";
    net03_05_smoq_blocking_lite016_04: net03, "moq-lite-05", smoq_blocking, lite016, "moq-lite-04";
    net03_05_smoq_blocking_net03_03: net03, "moq-lite-05", smoq_blocking, net03, "moq-lite-03";
    net03_05_smoq_blocking_net03_04: net03, "moq-lite-05", smoq_blocking, net03, "moq-lite-04";
    net03_05_smoq_blocking_net03_05: net03, "moq-lite-05", smoq_blocking, net03, "moq-lite-05";
    net03_05_smoq_blocking_net03_06: net03, "moq-lite-05", smoq_blocking, net03, "moq-lite-06";
    net03_06_smoq_blocking_lite016_03: net03, "moq-lite-06", smoq_blocking, lite016, "moq-lite-03";
    net03_06_smoq_blocking_lite016_04: net03, "moq-lite-06", smoq_blocking, lite016, "moq-lite-04";
    net03_06_smoq_blocking_net03_03: net03, "moq-lite-06", smoq_blocking, net03, "moq-lite-03";
    net03_06_smoq_blocking_net03_04: net03, "moq-lite-06", smoq_blocking, net03, "moq-lite-04";
    net03_06_smoq_blocking_net03_05: net03, "moq-lite-06", smoq_blocking, net03, "moq-lite-05";
    net03_06_smoq_blocking_net03_06: net03, "moq-lite-06", smoq_blocking, net03, "moq-lite-06";
}
