//! smoq in moq-transport with the published peers and with itself, with both adapters, and as a relay
//! between a draft and 03 to 06 or the other draft.

use smoq_interop::{
    by_hand::Refusal,
    closes, direct, matrix,
    peers::{lite016, net03, smoq_blocking, smoq_quinn},
    relays, suite, tests,
};

const DRAFTS: [&str; 2] = ["moqt-18", "moqt-16"];
/// DOES_NOT_EXIST.
const UNKNOWN: &[Refusal] = &[Refusal::Error(0x10)];

tests! {
    drafts_are_agreed_on_with_a_client_of_both:
        suite::negotiation::<net03::Peer, smoq_quinn::Peer>(&["moqt-16", "moqt-18"], &DRAFTS, "moqt-18");
    drafts_are_agreed_on_with_a_server_of_both:
        suite::negotiation::<smoq_blocking::Peer, net03::Peer>(&["moqt-16"], &DRAFTS, "moqt-16");
    smoq_quinn_refuses_in_16: suite::refused::<smoq_quinn::Peer>("moqt-16", UNKNOWN);
    smoq_quinn_refuses_in_18: suite::refused::<smoq_quinn::Peer>("moqt-18", UNKNOWN);
    smoq_blocking_refuses_in_16: suite::refused::<smoq_blocking::Peer>("moqt-16", UNKNOWN);
    smoq_blocking_refuses_in_18: suite::refused::<smoq_blocking::Peer>("moqt-18", UNKNOWN);
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

// moq-lite 0.16 relays no draft. In 18 it sends SUBSCRIBE_NAMESPACE in the form of 16, and is not sent any.
direct! {
    lite016_to_smoq_quinn_in_16: lite016, smoq_quinn, "moqt-16";
    lite016_to_smoq_quinn_in_18: lite016, smoq_quinn, "moqt-18";
    lite016_to_smoq_blocking_in_18: lite016, smoq_blocking, "moqt-18";
    smoq_quinn_to_lite016_in_18: smoq_quinn, lite016, "moqt-18";
    smoq_blocking_to_lite016_in_18: smoq_blocking, lite016, "moqt-18";
    lite016_to_smoq_blocking_in_16: lite016, smoq_blocking, "moqt-16";
}

// It accepts a SUBSCRIBE_OK only without the largest object.
direct! {
    smoq_quinn_to_lite016_in_16: smoq_quinn, lite016, "moqt-16";
    smoq_blocking_to_lite016_in_16: smoq_blocking, lite016, "moqt-16";
}

// Not to moq-transport 0.17, which drops the streams that it reads when the session closes.
closes! {
    smoq_quinn_net03_16: smoq_quinn, net03, "moqt-16";
    smoq_quinn_net03_18: smoq_quinn, net03, "moqt-18";
    smoq_blocking_net03_16: smoq_blocking, net03, "moqt-16";
    smoq_blocking_net03_18: smoq_blocking, net03, "moqt-18";
    smoq_quinn_smoq_blocking_16: smoq_quinn, smoq_blocking, "moqt-16";
    smoq_quinn_smoq_blocking_18: smoq_quinn, smoq_blocking, "moqt-18";
    smoq_blocking_smoq_quinn_16: smoq_blocking, smoq_quinn, "moqt-16";
    smoq_blocking_smoq_quinn_18: smoq_blocking, smoq_quinn, "moqt-18";
}

// Each draft with 03 to 06 and with the other draft, with one of the adapters. Tests with moq-lite alone
// are in tests/smoq.rs.
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
