//! Tests of the harness itself: each peer with each peer, in every version that they share.
//!
//! The codes in the assertions are those that the two crates send each other. `NOTES.md` in this package
//! lists them in a table.

use smoq_interop::{
    direct, matrix,
    peers::{cf017, lite016, net03},
    suite, tests,
};

tests! {
    versions_are_agreed_on: suite::negotiation::<lite016::Peer, net03::Peer>(
        &["moq-lite-03", "moq-lite-04"],
        &["moq-lite-06", "moq-lite-05", "moq-lite-04", "moq-lite-03"],
        "moq-lite-04",
    );
    a_largest_object_is_too_much_for_lite016:
        suite::largest_object_fails::<net03::Peer>("moqt-16");
    net03_and_lite016_fall_out_over_namespaces_in_18: suite::asking_ends_the_session::<net03::Peer>();
    cf017_and_lite016_fall_out_over_namespaces_in_18: suite::asking_ends_the_session::<cf017::Peer>();
    lite016_to_a_relay_that_asks_nothing_in_18:
        suite::relay::<lite016::Peer, cf017::Peer, cf017::Peer>("moqt-18", "moqt-18");
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
    net03_to_net03_in_16: net03, net03, "moqt-16";
    net03_to_net03_in_18: net03, net03, "moqt-18";
    net03_to_cf017_in_18: net03, cf017, "moqt-18";
    cf017_to_net03_in_18: cf017, net03, "moqt-18";
    cf017_to_cf017_in_18: cf017, cf017, "moqt-18";
}

// moq-lite 0.16 relays no draft, because it does not notice the end of broadcasts. In 18 it can only talk
// to itself.
direct! {
    lite016_to_lite016_in_16: lite016, lite016, "moqt-16";
    lite016_to_lite016_in_18: lite016, lite016, "moqt-18";
    lite016_to_net03_in_16: lite016, net03, "moqt-16";
}
