//! The harness proved on itself: each peer against each peer, in every version that they share.
//!
//! What is asserted in the suite about codes is what the two crates do to each other; `NOTES.md` beside
//! this package's manifest has it as a table.

use smoq_interop::{
    matrix,
    peers::{lite016, net03},
    suite, tests,
};

tests! {
    versions_are_agreed_on: suite::negotiation::<lite016::Peer, net03::Peer>(
        &["moq-lite-03", "moq-lite-04"],
        &["moq-lite-06", "moq-lite-05", "moq-lite-04", "moq-lite-03"],
        "moq-lite-04",
    );
    a_gentle_close_loses_nothing: suite::gentle_close::<net03::Peer, net03::Peer>("moq-lite-06");
}

matrix! {
    lite016_to_lite016_in_03: lite016, lite016, "moq-lite-03";
    lite016_to_lite016_in_04: lite016, lite016, "moq-lite-04";
    lite016_to_net03_in_03: lite016, net03, "moq-lite-03";
    lite016_to_net03_in_04: lite016, net03, "moq-lite-04";
    net03_to_lite016_in_03: net03, lite016, "moq-lite-03";
    net03_to_lite016_in_04: net03, lite016, "moq-lite-04";
    net03_to_net03_in_03: net03, net03, "moq-lite-03";
    net03_to_net03_in_04: net03, net03, "moq-lite-04";
    net03_to_net03_in_05: net03, net03, "moq-lite-05";
    net03_to_net03_in_06: net03, net03, "moq-lite-06";
}
