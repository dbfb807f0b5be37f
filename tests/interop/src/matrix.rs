//! Macros that name the tests of the suite for given peers and versions.

/// Names async functions as tests. Each is run by [`attempts`](crate::attempts).
#[macro_export]
macro_rules! tests {
    ($($name:ident: $run:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $crate::attempts(concat!(module_path!(), "::", stringify!($name)), || $run).await;
        }
    )*};
}

/// All tests of `P` and `S` in one version without a relay.
#[doc(hidden)]
#[macro_export]
macro_rules! direct_tests {
    ($version:literal) => {
        $crate::tests! {
            round_trip_subscriber_dials:
                suite::round_trip::<P, S>($version, suite::Dials::Subscriber);
            round_trip_publisher_dials:
                suite::round_trip::<P, S>($version, suite::Dials::Publisher);
            burst_of_small_groups: suite::burst::<P, S>($version);
            partial_groups: suite::partial::<P, S>($version);
            dropped_publisher: suite::dropped::<P, S>($version);
            vanished_publisher: suite::vanished::<P, S>($version);
        }
    };
}

/// All tests of a publisher and a subscriber in one version, without a relay.
#[macro_export]
macro_rules! direct {
    ($($name:ident: $publisher:ident, $subscriber:ident, $version:literal;)*) => {$(
        mod $name {
            use smoq_interop::{peers, suite};
            type P = peers::$publisher::Peer;
            type S = peers::$subscriber::Peer;

            $crate::direct_tests! { $version }
        }
    )*};
}

/// All tests of a publisher and a subscriber in one version.
#[macro_export]
macro_rules! matrix {
    ($($name:ident: $publisher:ident, $subscriber:ident, $version:literal;)*) => {$(
        mod $name {
            use smoq_interop::{peers, suite};
            type P = peers::$publisher::Peer;
            type S = peers::$subscriber::Peer;

            $crate::direct_tests! { $version }

            $crate::tests! {
                through_a_relay_of_the_publishers_kind: suite::relay::<P, P, S>($version, $version);
                through_a_relay_of_the_subscribers_kind: suite::relay::<P, S, S>($version, $version);
                meeting_at_a_relay: suite::meeting::<P, S, S>($version, $version);
            }
        }
    )*};
}

/// A session that the publisher closes gracefully delivers everything written before.
#[macro_export]
macro_rules! closes {
    ($($name:ident: $publisher:ident, $subscriber:ident, $version:literal;)*) => {
        mod gentle_close {
            use smoq_interop::{peers::*, suite};

            $crate::tests! {$(
                $name: suite::gentle_close::<$publisher::Peer, $subscriber::Peer>($version);
            )*}
        }
    };
}

/// Peers that meet through a relay, each in a version of its own.
#[macro_export]
macro_rules! relays {
    ($($name:ident: $a:ident, $up:literal, $relay:ident, $b:ident, $down:literal;)*) => {$(
        mod $name {
            use smoq_interop::{peers::*, suite};

            $crate::tests! {
                relay: suite::relay::<$a::Peer, $relay::Peer, $b::Peer>($up, $down);
                meeting: suite::meeting::<$a::Peer, $relay::Peer, $b::Peer>($up, $down);
                burst: suite::relayed_burst::<$a::Peer, $relay::Peer, $b::Peer>($up, $down);
            }
        }
    )*};
}
