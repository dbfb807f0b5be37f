//! Two ends over real UDP on loopback, on either runtime, in one task.
#![allow(clippy::disallowed_methods, reason = "real time is what is tested")]

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::Ipv4Addr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use smoq::{
    Client, Error, IncomingSession, Limits, Origin, OriginProducer, Server, Session, Version,
    Versions,
};
use smoq_quinn::smoq_quic::{Carrier, Identity, Trust};
use smoq_quinn::{ConnectionDriver, config};

thread_local! {
    /// The carrier that links of this thread use.
    static CARRIER: Cell<Carrier> = const { Cell::new(Carrier::RawQuic) };
}

/// Whether links of this thread use WebTransport.
pub(crate) fn is_webtransport() -> bool {
    CARRIER.get() == Carrier::WebTransport
}

/// From now on the links of this thread use WebTransport.
pub(crate) fn use_webtransport() {
    CARRIER.set(Carrier::WebTransport);
}

/// Whether a session knows the rate of its path.
pub(crate) const fn tells_rate() -> bool {
    true
}

/// Whether the peer understands that the future of a session was dropped.
pub(crate) fn was_dropped(end: &Result<(), Error>) -> bool {
    *end == Ok(())
}

/// Makes a module per runtime and one for WebTransport, with a test per function that runs it in every version.
macro_rules! in_every_version {
    ($($test:ident)*) => {
        mod on_webtransport {
            $(#[test] fn $test() {
                $crate::ends::use_webtransport();
                let runtime = $crate::ends::on_this_thread();
                for version in smoq::Version::ALL.into_iter().chain(smoq::Version::WIP) {
                    println!("{version}");
                    runtime.block_on($crate::ends::bounded(super::$test(version)));
                }
            })*
        }
        mod on_tokio {
            $(#[test] fn $test() {
                let runtime = $crate::ends::on_this_thread();
                for version in smoq::Version::ALL.into_iter().chain(smoq::Version::WIP) {
                    println!("{version}");
                    runtime.block_on($crate::ends::bounded(super::$test(version)));
                }
            })*
        }
        #[cfg(feature = "runtime-smol")]
        mod on_smol {
            $(#[test] fn $test() {
                for version in smoq::Version::ALL.into_iter().chain(smoq::Version::WIP) {
                    println!("{version}");
                    smol::block_on($crate::ends::bounded(super::$test(version)));
                }
            })*
        }
    };
}
pub(crate) use in_every_version;

/// A runtime on this thread.
pub(crate) fn on_this_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Fails instead of hanging.
pub(crate) async fn bounded<T>(test: impl Future<Output = T>) -> T {
    let limit = Instant::now() + Duration::from_secs(30);
    let mut timer = quinn::default_runtime().unwrap().new_timer(limit);
    let mut test = pin!(test);
    poll_fn(|cx| {
        assert!(timer.as_mut().poll(cx).is_pending(), "the test hangs");
        test.as_mut().poll(cx)
    })
    .await
}

/// Awaits both.
pub(crate) async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_done, mut b_done) = (None, None);
    poll_fn(|cx| {
        poll_once(a.as_mut(), &mut a_done, cx);
        poll_once(b.as_mut(), &mut b_done, cx);
        if a_done.is_some() && b_done.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (a_done.unwrap(), b_done.unwrap())
}

fn poll_once<F: Future>(future: Pin<&mut F>, done: &mut Option<F::Output>, cx: &mut Context<'_>) {
    if done.is_none() {
        if let Poll::Ready(output) = future.poll(cx) {
            *done = Some(output);
        }
    }
}

/// Both ends of one connection.
pub(crate) struct Link {
    pub(crate) client: quinn::Connection,
    pub(crate) server: quinn::Connection,
    pub(crate) dialing: quinn::Endpoint,
    pub(crate) listening: quinn::Endpoint,
}

impl Link {
    /// With configurations that this crate makes, for these versions.
    pub(crate) async fn new(client: &Versions, server: &Versions) -> Self {
        let identity = Identity::self_signed(["localhost"]).unwrap();
        let trust = Trust::from(identity.fingerprint());
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let config = config::server(&identity, server).unwrap();
        let listening = quinn::Endpoint::server(config, any).unwrap();
        let address = listening.local_addr().unwrap();
        let dialing = quinn::Endpoint::client(any).unwrap();
        let config = match CARRIER.get() {
            Carrier::RawQuic => config::client(&trust, client).unwrap(),
            Carrier::WebTransport => config::webtransport_client(&trust).unwrap(),
        };
        let (client, server) = both(
            async { dialing.connect_with(config, address, "localhost").unwrap().await.unwrap() },
            async { listening.accept().await.unwrap().await.unwrap() },
        )
        .await;
        Self { client, server, dialing, listening }
    }
}

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
    let link = Link::new(&versions, &versions).await;
    let here = Origin::default().produce();
    let (drivings, near, far) = pair_over(link, here, there, versions.clone(), versions).await;
    assert_eq!((near.session.version(), far.session.version()), (version, version));
    (drivings, near, far)
}

/// The same on a connection of its own, for these versions.
pub(crate) async fn pair_on(
    link: Link,
    client: Versions,
    server: Versions,
) -> (Drivings, Side, Side) {
    let (near, far) = (Origin::default().produce(), Origin::default().produce());
    pair_over(link, near, far, client, server).await
}

/// The same for origins that are there.
pub(crate) async fn pair_over(
    link: Link,
    near: OriginProducer,
    far: OriginProducer,
    client: Versions,
    server: Versions,
) -> (Drivings, Side, Side) {
    let mut limits = Limits::default();
    // Older versions of moq-lite wait this long at each end of a track, and loopback delays nothing for so long.
    limits.straggler_timeout = Duration::from_millis(300);
    let client = Client::new().with_origin(&near).with_versions(client).with_limits(limits.clone());
    let server = Server::new().with_origin(&far).with_versions(server).with_limits(limits);
    let dialing = smoq_quinn::connect(link.client, &client);
    let (near_end, far_end) = both(dialing, smoq_quinn::accept(link.server, &server)).await;
    let ((near_session, client), (far_session, server)) = (near_end.unwrap(), far_end.unwrap());
    let endpoints = [link.dialing, link.listening];
    let drivings = Drivings { client: Half::Going(client), server: Half::Going(server), endpoints };
    let near = Side { origin: near, session: near_session };
    (drivings, near, Side { origin: far, session: far_session })
}

/// A client, and what a server is asked about it.
pub(crate) async fn asked(
    version: Version,
    client: Client,
) -> (Drivings, Session, IncomingSession) {
    let versions = Versions::from(version);
    let link = Link::new(&versions, &versions).await;
    let (client, server) =
        (client.with_versions(versions.clone()), Server::new().with_versions(versions));
    let dialing = smoq_quinn::connect(link.client, &client);
    let (dialed, asked) = both(dialing, smoq_quinn::incoming(link.server, &server)).await;
    let ((session, client), (request, server)) = (dialed.unwrap(), asked.unwrap());
    let endpoints = [link.dialing, link.listening];
    let drivings = Drivings { client: Half::Going(client), server: Half::Going(server), endpoints };
    (drivings, session, request)
}

/// The futures of both sides. They are polled as long as something else is waited for.
pub(crate) struct Drivings {
    client: Half,
    server: Half,
    #[expect(dead_code, reason = "they live as long as their connections")]
    endpoints: [quinn::Endpoint; 2],
}

enum Half {
    Going(ConnectionDriver),
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
