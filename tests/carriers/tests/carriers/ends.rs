//! Two ends on each carrier, in one task.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use smoq::{Client, Error, Origin, OriginProducer, Server, Session, Version, Versions};
use smoq_web_transport::web_transport_trait::Session as Carrier;
use smoq_web_transport::{SessionDriver, accept, connect};

use tokio::runtime::{self, Runtime};

use crate::carriers::{self, Iroh, Kept, Noq, Pair, Quinn, Tcp, WebSocket};

/// The transport below a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Quinn,
    Noq,
    Iroh,
    Tcp,
    WebSocket,
}

thread_local! {
    /// The carrier that pairs of this thread use.
    pub(crate) static KIND: Cell<Kind> = const { Cell::new(Kind::Quinn) };
}

/// Whether the carrier of this thread tells the rate of its path.
pub(crate) fn tells_rate() -> bool {
    KIND.get() != Kind::WebSocket
}

/// Whether the peer understands that the future of a session was dropped.
pub(crate) fn was_dropped(end: &Result<(), Error>) -> bool {
    match KIND.get() {
        Kind::Iroh => *end == Err(Error::Disconnected),
        _ => *end == Ok(()),
    }
}

/// One of each kind: with SETUP and without, on a control stream and on streams of their own.
const VERSIONS: [Version; 5] =
    [Version::Lite02, Version::Lite04, Version::Lite06, Version::Moqt14, Version::Moqt22];

/// Runs a test on a carrier, in several versions.
pub(crate) fn on<F: Future<Output = ()>>(kind: Kind, test: impl Fn(Version) -> F) {
    KIND.set(kind);
    for version in VERSIONS {
        println!("{version}");
        bounded(test(version));
    }
}

/// A runtime, on this thread or on one of its own.
pub(crate) fn runtime(on_own_thread: bool) -> Runtime {
    let mut builder = if on_own_thread {
        runtime::Builder::new_multi_thread()
    } else {
        runtime::Builder::new_current_thread()
    };
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// Runs a test.
pub(crate) fn bounded(test: impl Future<Output = ()>) {
    runtime(false).block_on(within_time(test));
}

/// Fails instead of hanging.
pub(crate) async fn within_time(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test hangs");
}

/// Makes a module per carrier, with a test per function.
macro_rules! in_every_version {
    ($($test:ident)*) => {
        $crate::ends::in_every_version! { $($test)*; on_quinn Quinn }
        $crate::ends::in_every_version! { $($test)*; on_noq Noq }
        $crate::ends::in_every_version! { $($test)*; on_iroh Iroh }
        $crate::ends::in_every_version! { $($test)*; on_tcp Tcp }
        $crate::ends::in_every_version! { $($test)*; on_web_socket WebSocket }
    };
    ($($test:ident)*; $module:ident $kind:ident) => {
        mod $module {
            $($crate::ends::in_every_version! { @ $test $kind })*
        }
    };
    // No carrier tells when the bytes of an open stream have arrived. They have a round trip before a close.
    (@ so_do_the_frames_of_a_group_that_is_open $kind:ident) => {};
    // It does not tell how a session was closed: `crate::table` has what it does.
    (@ a_close_carries_its_code Iroh) => {};
    (@ what_was_written_before_a_drain_arrives Iroh) => {};
    // There is nothing to report.
    (@ the_peer_reports_the_path WebSocket) => {};
    (@ $test:ident $kind:ident) => {
        #[test]
        fn $test() {
            $crate::ends::on($crate::ends::Kind::$kind, super::$test);
        }
    };
}
pub(crate) use in_every_version;

/// One side of a session, with an origin that it both publishes and feeds.
pub(crate) struct Side {
    pub(crate) origin: OriginProducer,
    pub(crate) session: Session,
}

/// A client and a server that speak `version`, and what drives them.
pub(crate) async fn pair(version: Version) -> (Drivings, Side, Side) {
    pair_with(version, Origin::default().produce()).await
}

/// The same with the origin of the server.
pub(crate) async fn pair_with(version: Version, there: OriginProducer) -> (Drivings, Side, Side) {
    let versions = Versions::from(version);
    let (drivings, near, far) = match KIND.get() {
        Kind::Quinn => pair_over(carriers::pair::<Quinn>(&versions).await, there, &versions),
        Kind::Noq => pair_over(carriers::pair::<Noq>(&versions).await, there, &versions),
        Kind::Iroh => pair_over(carriers::pair::<Iroh>(&versions).await, there, &versions),
        Kind::Tcp => pair_over(carriers::pair::<Tcp>(&versions).await, there, &versions),
        Kind::WebSocket => {
            pair_over(carriers::pair::<WebSocket>(&versions).await, there, &versions)
        }
    };
    assert_eq!((near.session.version(), far.session.version()), (version, version));
    (drivings, near, far)
}

/// The same on two sessions of a carrier.
pub(crate) fn pair_on<S: Carrier>(pair: Pair<S>, versions: &Versions) -> (Drivings, Side, Side) {
    pair_over(pair, Origin::default().produce(), versions)
}

fn pair_over<S: Carrier>(
    (near, far, kept): Pair<S>,
    there: OriginProducer,
    versions: &Versions,
) -> (Drivings, Side, Side) {
    let here = Origin::default().produce();
    let client = Client::new().with_origin(&here).with_versions(versions.clone());
    let server = Server::new().with_origin(&there).with_versions(versions.clone());
    let (near, client) = connect(near, &client, tokio::time::sleep).unwrap();
    let (far, server) = accept(far, &server, tokio::time::sleep).unwrap();
    let drivings = Drivings { client: Half::Going(client), server: Half::Going(server), kept };
    (drivings, Side { origin: here, session: near }, Side { origin: there, session: far })
}

/// The futures of both sides. They are polled as long as something else is waited for.
pub(crate) struct Drivings {
    client: Half,
    server: Half,
    #[expect(dead_code, reason = "it lives as long as the sessions")]
    kept: Kept,
}

enum Half {
    Going(SessionDriver),
    Ended(Result<(), Error>),
}

impl Half {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Self::Going(driving) = self {
            let ended = ready!(Pin::new(driving).poll(cx));
            *self = Self::Ended(ended);
        }
        match self {
            Self::Ended(result) => Poll::Ready(result.clone()),
            Self::Going(_) => Poll::Pending,
        }
    }
}

impl Drivings {
    /// Drives both sides until `body` is done.
    pub(crate) async fn run<T>(&mut self, body: impl Future<Output = T>) -> T {
        let mut body = pin!(body);
        poll_fn(|cx| {
            let _ = (self.client.poll(cx), self.server.poll(cx));
            body.as_mut().poll(cx)
        })
        .await
    }

    /// Drives until both sides are over; first the client's end, then the server's.
    pub(crate) async fn ended(&mut self) -> [Result<(), Error>; 2] {
        poll_fn(|cx| {
            let (client, server) = (self.client.poll(cx), self.server.poll(cx));
            Poll::Ready([ready!(client), ready!(server)])
        })
        .await
    }

    /// Drops the client's future in any state.
    pub(crate) fn drop_client(&mut self) {
        self.client = Half::Ended(Ok(()));
    }
}
