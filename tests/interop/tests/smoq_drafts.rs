//! smoq in moq-transport with the published peers and with itself, with both adapters, and as a relay
//! between a draft and a version of moq-lite or another draft.
//!
//! 16 and 18 are the drafts that most peers speak, and are tested in every pairing. Each of the others is
//! tested with each peer and in each role, but not in every pairing.

use smoq_interop::{
    by_hand::Refusal,
    closes, direct, matrix,
    peers::{lite016, net03, smoq_blocking, smoq_quinn},
    relays, suite, tests,
};

/// All drafts, the preferred one first.
const DRAFTS: [&str; 9] = [
    "moqt-22", "moqt-21", "moqt-20", "moqt-19", "moqt-18", "moqt-17", "moqt-16", "moqt-15",
    "moqt-14",
];
/// DOES_NOT_EXIST.
const UNKNOWN: &[Refusal] = &[Refusal::Error(0x10)];
/// TRACK_DOES_NOT_EXIST of SUBSCRIBE_ERROR.
const UNKNOWN_14: &[Refusal] = &[Refusal::Error(0x4)];

tests! {
    drafts_are_agreed_on_with_a_client_of_two:
        suite::negotiation::<net03::Peer, smoq_quinn::Peer>(&["moqt-16", "moqt-18"], &DRAFTS, "moqt-18");
    drafts_are_agreed_on_with_a_client_of_all:
        suite::negotiation::<net03::Peer, smoq_quinn::Peer>(&DRAFTS, &DRAFTS, "moqt-22");
    drafts_are_agreed_on_with_a_server_of_all:
        suite::negotiation::<smoq_blocking::Peer, net03::Peer>(&DRAFTS, &DRAFTS, "moqt-22");
    the_oldest_draft_is_agreed_on_with_a_server_of_all:
        suite::negotiation::<smoq_quinn::Peer, net03::Peer>(&["moqt-14"], &DRAFTS, "moqt-14");
    smoq_blocking_refuses_in_14: suite::refused::<smoq_blocking::Peer>("moqt-14", UNKNOWN_14);
    smoq_quinn_refuses_in_15: suite::refused::<smoq_quinn::Peer>("moqt-15", UNKNOWN);
    smoq_quinn_refuses_in_16: suite::refused::<smoq_quinn::Peer>("moqt-16", UNKNOWN);
    smoq_blocking_refuses_in_16: suite::refused::<smoq_blocking::Peer>("moqt-16", UNKNOWN);
    smoq_blocking_refuses_in_17: suite::refused::<smoq_blocking::Peer>("moqt-17", UNKNOWN);
    smoq_quinn_refuses_in_18: suite::refused::<smoq_quinn::Peer>("moqt-18", UNKNOWN);
    smoq_blocking_refuses_in_18: suite::refused::<smoq_blocking::Peer>("moqt-18", UNKNOWN);
    smoq_quinn_refuses_in_19: suite::refused::<smoq_quinn::Peer>("moqt-19", UNKNOWN);
    smoq_blocking_refuses_in_20: suite::refused::<smoq_blocking::Peer>("moqt-20", UNKNOWN);
    smoq_quinn_refuses_in_21: suite::refused::<smoq_quinn::Peer>("moqt-21", UNKNOWN);
    smoq_blocking_refuses_in_22: suite::refused::<smoq_blocking::Peer>("moqt-22", UNKNOWN);
}

// smoq with itself, in each draft with each adapter on either side.
matrix! {
    smoq_quinn_to_smoq_quinn_in_18: smoq_quinn, smoq_quinn, "moqt-18";
    smoq_quinn_to_smoq_blocking_in_16: smoq_quinn, smoq_blocking, "moqt-16";
    smoq_blocking_to_smoq_quinn_in_18: smoq_blocking, smoq_quinn, "moqt-18";
    smoq_blocking_to_smoq_blocking_in_16: smoq_blocking, smoq_blocking, "moqt-16";
    smoq_quinn_to_net03_in_16: smoq_quinn, net03, "moqt-16";
    net03_to_smoq_quinn_in_16: net03, smoq_quinn, "moqt-16";
    smoq_quinn_to_net03_in_18: smoq_quinn, net03, "moqt-18";
    net03_to_smoq_quinn_in_18: net03, smoq_quinn, "moqt-18";
    smoq_quinn_to_cf017_in_18: smoq_quinn, cf017, "moqt-18";
    cf017_to_smoq_quinn_in_18: cf017, smoq_quinn, "moqt-18";
    smoq_blocking_to_net03_in_16: smoq_blocking, net03, "moqt-16";
    net03_to_smoq_blocking_in_16: net03, smoq_blocking, "moqt-16";
    smoq_blocking_to_net03_in_18: smoq_blocking, net03, "moqt-18";
    net03_to_smoq_blocking_in_18: net03, smoq_blocking, "moqt-18";
    smoq_blocking_to_cf017_in_18: smoq_blocking, cf017, "moqt-18";
    cf017_to_smoq_blocking_in_18: cf017, smoq_blocking, "moqt-18";
}

// The other drafts, with each adapter in one direction.
direct! {
    smoq_quinn_to_net03_in_14: smoq_quinn, net03, "moqt-14";
    net03_to_smoq_blocking_in_14: net03, smoq_blocking, "moqt-14";
    smoq_blocking_to_net03_in_15: smoq_blocking, net03, "moqt-15";
    net03_to_smoq_quinn_in_15: net03, smoq_quinn, "moqt-15";
    smoq_quinn_to_net03_in_17: smoq_quinn, net03, "moqt-17";
    net03_to_smoq_blocking_in_17: net03, smoq_blocking, "moqt-17";
    smoq_blocking_to_net03_in_19: smoq_blocking, net03, "moqt-19";
    net03_to_smoq_quinn_in_19: net03, smoq_quinn, "moqt-19";
    smoq_quinn_to_net03_in_20: smoq_quinn, net03, "moqt-20";
    net03_to_smoq_blocking_in_20: net03, smoq_blocking, "moqt-20";
    smoq_blocking_to_net03_in_21: smoq_blocking, net03, "moqt-21";
    net03_to_smoq_quinn_in_21: net03, smoq_quinn, "moqt-21";
    smoq_quinn_to_net03_in_22: smoq_quinn, net03, "moqt-22";
    net03_to_smoq_blocking_in_22: net03, smoq_blocking, "moqt-22";
}

tests! {
    net03_smoq_quinn_net03_14:
        suite::relay::<net03::Peer, smoq_quinn::Peer, net03::Peer>("moqt-14", "moqt-14");
    smoq_blocking_net03_smoq_blocking_14:
        suite::relay::<smoq_blocking::Peer, net03::Peer, smoq_blocking::Peer>("moqt-14", "moqt-14");
    net03_smoq_blocking_net03_15:
        suite::relay::<net03::Peer, smoq_blocking::Peer, net03::Peer>("moqt-15", "moqt-15");
    smoq_quinn_net03_smoq_quinn_15:
        suite::relay::<smoq_quinn::Peer, net03::Peer, smoq_quinn::Peer>("moqt-15", "moqt-15");
    net03_smoq_quinn_net03_17:
        suite::relay::<net03::Peer, smoq_quinn::Peer, net03::Peer>("moqt-17", "moqt-17");
    smoq_blocking_net03_smoq_blocking_17:
        suite::relay::<smoq_blocking::Peer, net03::Peer, smoq_blocking::Peer>("moqt-17", "moqt-17");
    net03_smoq_blocking_net03_19:
        suite::relay::<net03::Peer, smoq_blocking::Peer, net03::Peer>("moqt-19", "moqt-19");
    smoq_quinn_net03_smoq_quinn_19:
        suite::relay::<smoq_quinn::Peer, net03::Peer, smoq_quinn::Peer>("moqt-19", "moqt-19");
    net03_smoq_quinn_net03_20:
        suite::relay::<net03::Peer, smoq_quinn::Peer, net03::Peer>("moqt-20", "moqt-20");
    smoq_blocking_net03_smoq_blocking_20:
        suite::relay::<smoq_blocking::Peer, net03::Peer, smoq_blocking::Peer>("moqt-20", "moqt-20");
    net03_smoq_blocking_net03_21:
        suite::relay::<net03::Peer, smoq_blocking::Peer, net03::Peer>("moqt-21", "moqt-21");
    smoq_quinn_net03_smoq_quinn_21:
        suite::relay::<smoq_quinn::Peer, net03::Peer, smoq_quinn::Peer>("moqt-21", "moqt-21");
    net03_smoq_quinn_net03_22:
        suite::relay::<net03::Peer, smoq_quinn::Peer, net03::Peer>("moqt-22", "moqt-22");
    smoq_blocking_net03_smoq_blocking_22:
        suite::relay::<smoq_blocking::Peer, net03::Peer, smoq_blocking::Peer>("moqt-22", "moqt-22");
}

// moq-lite 0.16 relays no draft. In 18 it sends SUBSCRIBE_NAMESPACE in the form of 16, and is not sent any.
direct! {
    lite016_to_smoq_quinn_in_14: lite016, smoq_quinn, "moqt-14";
    lite016_to_smoq_blocking_in_15: lite016, smoq_blocking, "moqt-15";
    lite016_to_smoq_quinn_in_16: lite016, smoq_quinn, "moqt-16";
    lite016_to_smoq_blocking_in_17: lite016, smoq_blocking, "moqt-17";
    smoq_quinn_to_lite016_in_17: smoq_quinn, lite016, "moqt-17";
    lite016_to_smoq_quinn_in_18: lite016, smoq_quinn, "moqt-18";
    lite016_to_smoq_blocking_in_18: lite016, smoq_blocking, "moqt-18";
    smoq_quinn_to_lite016_in_18: smoq_quinn, lite016, "moqt-18";
    smoq_blocking_to_lite016_in_18: smoq_blocking, lite016, "moqt-18";
    lite016_to_smoq_blocking_in_16: lite016, smoq_blocking, "moqt-16";
}

// It accepts a SUBSCRIBE_OK only without the largest object.
direct! {
    smoq_blocking_to_lite016_in_14: smoq_blocking, lite016, "moqt-14";
    smoq_quinn_to_lite016_in_15: smoq_quinn, lite016, "moqt-15";
    smoq_quinn_to_lite016_in_16: smoq_quinn, lite016, "moqt-16";
    smoq_blocking_to_lite016_in_16: smoq_blocking, lite016, "moqt-16";
}

// Not to moq-transport 0.17, which drops the streams that it reads when the session closes.
closes! {
    smoq_quinn_net03_16: smoq_quinn, net03, "moqt-16";
    smoq_quinn_net03_18: smoq_quinn, net03, "moqt-18";
    smoq_blocking_net03_16: smoq_blocking, net03, "moqt-16";
    smoq_blocking_net03_18: smoq_blocking, net03, "moqt-18";
    smoq_blocking_net03_14: smoq_blocking, net03, "moqt-14";
    smoq_quinn_net03_15: smoq_quinn, net03, "moqt-15";
    smoq_blocking_net03_17: smoq_blocking, net03, "moqt-17";
    smoq_quinn_net03_19: smoq_quinn, net03, "moqt-19";
    smoq_blocking_net03_20: smoq_blocking, net03, "moqt-20";
    smoq_quinn_net03_21: smoq_quinn, net03, "moqt-21";
    smoq_blocking_net03_22: smoq_blocking, net03, "moqt-22";
    smoq_quinn_smoq_blocking_16: smoq_quinn, smoq_blocking, "moqt-16";
    smoq_quinn_smoq_blocking_18: smoq_quinn, smoq_blocking, "moqt-18";
    smoq_blocking_smoq_quinn_16: smoq_blocking, smoq_quinn, "moqt-16";
    smoq_blocking_smoq_quinn_18: smoq_blocking, smoq_quinn, "moqt-18";
}

// 16 and 18 with 03 to 06 and with each other, and each other draft with one version of moq-lite and one
// draft, with one of the adapters. Tests with moq-lite alone are in tests/smoq.rs.
relays! {
    net03_03_smoq_quinn_net03_16: net03, "moq-lite-03", smoq_quinn, net03, "moqt-16";
    net03_03_smoq_blocking_net03_18: net03, "moq-lite-03", smoq_blocking, net03, "moqt-18";
    net03_04_smoq_quinn_net03_16: net03, "moq-lite-04", smoq_quinn, net03, "moqt-16";
    net03_04_smoq_blocking_net03_18: net03, "moq-lite-04", smoq_blocking, net03, "moqt-18";
    net03_05_smoq_quinn_net03_16: net03, "moq-lite-05", smoq_quinn, net03, "moqt-16";
    net03_05_smoq_blocking_net03_18: net03, "moq-lite-05", smoq_blocking, net03, "moqt-18";
    net03_06_smoq_quinn_net03_16: net03, "moq-lite-06", smoq_quinn, net03, "moqt-16";
    net03_06_smoq_blocking_net03_18: net03, "moq-lite-06", smoq_blocking, net03, "moqt-18";
    net03_16_smoq_quinn_net03_03: net03, "moqt-16", smoq_quinn, net03, "moq-lite-03";
    net03_16_smoq_blocking_net03_04: net03, "moqt-16", smoq_blocking, net03, "moq-lite-04";
    net03_16_smoq_quinn_net03_05: net03, "moqt-16", smoq_quinn, net03, "moq-lite-05";
    net03_16_smoq_blocking_net03_06: net03, "moqt-16", smoq_blocking, net03, "moq-lite-06";
    net03_16_smoq_quinn_net03_16: net03, "moqt-16", smoq_quinn, net03, "moqt-16";
    net03_16_smoq_blocking_net03_18: net03, "moqt-16", smoq_blocking, net03, "moqt-18";
    net03_18_smoq_quinn_net03_03: net03, "moqt-18", smoq_quinn, net03, "moq-lite-03";
    net03_18_smoq_blocking_net03_04: net03, "moqt-18", smoq_blocking, net03, "moq-lite-04";
    net03_18_smoq_quinn_net03_05: net03, "moqt-18", smoq_quinn, net03, "moq-lite-05";
    net03_18_smoq_blocking_net03_06: net03, "moqt-18", smoq_blocking, net03, "moq-lite-06";
    net03_18_smoq_quinn_net03_16: net03, "moqt-18", smoq_quinn, net03, "moqt-16";
    net03_18_smoq_blocking_net03_18: net03, "moqt-18", smoq_blocking, net03, "moqt-18";
    net03_14_smoq_quinn_net03_06: net03, "moqt-14", smoq_quinn, net03, "moq-lite-06";
    net03_18_smoq_blocking_net03_14: net03, "moqt-18", smoq_blocking, net03, "moqt-14";
    net03_05_smoq_blocking_net03_15: net03, "moq-lite-05", smoq_blocking, net03, "moqt-15";
    net03_15_smoq_quinn_net03_16: net03, "moqt-15", smoq_quinn, net03, "moqt-16";
    net03_17_smoq_quinn_net03_04: net03, "moqt-17", smoq_quinn, net03, "moq-lite-04";
    net03_14_smoq_blocking_net03_17: net03, "moqt-14", smoq_blocking, net03, "moqt-17";
    net03_03_smoq_blocking_net03_19: net03, "moq-lite-03", smoq_blocking, net03, "moqt-19";
    net03_19_smoq_quinn_net03_22: net03, "moqt-19", smoq_quinn, net03, "moqt-22";
    net03_20_smoq_quinn_net03_06: net03, "moqt-20", smoq_quinn, net03, "moq-lite-06";
    net03_17_smoq_blocking_net03_20: net03, "moqt-17", smoq_blocking, net03, "moqt-20";
    net03_05_smoq_blocking_net03_21: net03, "moq-lite-05", smoq_blocking, net03, "moqt-21";
    net03_21_smoq_quinn_net03_20: net03, "moqt-21", smoq_quinn, net03, "moqt-20";
    net03_22_smoq_quinn_net03_06: net03, "moqt-22", smoq_quinn, net03, "moq-lite-06";
    net03_14_smoq_blocking_net03_22: net03, "moqt-14", smoq_blocking, net03, "moqt-22";
    cf017_18_smoq_quinn_net03_04: cf017, "moqt-18", smoq_quinn, net03, "moq-lite-04";
    cf017_18_smoq_blocking_net03_06: cf017, "moqt-18", smoq_blocking, net03, "moq-lite-06";
    cf017_18_smoq_quinn_net03_16: cf017, "moqt-18", smoq_quinn, net03, "moqt-16";
    net03_03_smoq_blocking_cf017_18: net03, "moq-lite-03", smoq_blocking, cf017, "moqt-18";
    net03_05_smoq_quinn_cf017_18: net03, "moq-lite-05", smoq_quinn, cf017, "moqt-18";
    net03_16_smoq_blocking_cf017_18: net03, "moqt-16", smoq_blocking, cf017, "moqt-18";
    cf017_18_smoq_quinn_cf017_18: cf017, "moqt-18", smoq_quinn, cf017, "moqt-18";
}

// Tracks that moq-lite 0.16 publishes in a draft can be relayed to any peer.
tests! {
    lite016_16_smoq_quinn_net03_06:
        suite::relay::<lite016::Peer, smoq_quinn::Peer, net03::Peer>("moqt-16", "moq-lite-06");
    lite016_16_smoq_blocking_net03_18:
        suite::relay::<lite016::Peer, smoq_blocking::Peer, net03::Peer>("moqt-16", "moqt-18");
}
