//! smoq against the published peers and against itself, by both adapters.

use smoq_interop::{
    closes, matrix,
    peers::{lite016, net03, smoq_blocking, smoq_quinn},
    relays, suite, tests,
};

const LITE: [&str; 4] = ["moq-lite-06", "moq-lite-05", "moq-lite-04", "moq-lite-03"];
const OLD: [&str; 2] = ["moq-lite-03", "moq-lite-04"];

tests! {
    versions_are_agreed_on_with_an_old_client:
        suite::negotiation::<lite016::Peer, smoq_quinn::Peer>(&OLD, &LITE, "moq-lite-04");
    versions_are_agreed_on_with_an_old_server:
        suite::negotiation::<smoq_blocking::Peer, lite016::Peer>(&["moq-lite-03"], &OLD, "moq-lite-03");
    versions_are_agreed_on_with_a_new_client:
        suite::negotiation::<net03::Peer, smoq_blocking::Peer>(&LITE[1..3], &LITE, "moq-lite-05");
    versions_are_agreed_on_with_a_new_server:
        suite::negotiation::<smoq_quinn::Peer, net03::Peer>(&LITE[..2], &LITE, "moq-lite-06");
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

// Not to moq-lite 0.16, which throws away what it has not read yet when the session closes.
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
