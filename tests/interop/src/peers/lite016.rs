//! moq-lite 0.16.3, over web-transport-quinn 0.11.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{LazyLock, Mutex},
    thread,
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet};
use wtq_lite016::proto::{ConnectRequest, ConnectResponse};

use super::{
    Abilities, Announcement, Announcements, Code, Event, Failure, Link, Listener, Options, Role,
    Subscription, carrier, is_moqt, known,
};
use crate::{quic, within};

/// A peer that runs moq-lite 0.16.3.
pub type Peer = PeerOn<false>;

/// The peer on WebTransport over HTTP/3 (`WEB`), or on raw QUIC.
pub struct PeerOn<const WEB: bool> {
    origin: moq_lite::OriginProducer,
}

impl<const WEB: bool> super::Peer for PeerOn<WEB> {
    const NAME: &'static str = "moq-lite 0.16.3";
    const VERSIONS: &'static [&'static str] = &[
        "moq-lite-01",
        "moq-lite-02",
        "moq-lite-03",
        "moq-lite-04",
        "moqt-14",
        "moqt-15",
        "moqt-16",
        "moqt-17",
        "moqt-18",
    ];

    type Broadcast = Broadcast;

    fn new() -> Self {
        Self { origin: moq_lite::Origin::random().produce() }
    }

    fn abilities(version: &str) -> Abilities {
        let moqt18 = matches!(version, "moqt-17" | "moqt-18");
        if is_moqt(version) {
            // An early implementation of the drafts: it serves groups from the first one in its cache,
            // signals the end with a status of its own, and treats any message after SUBSCRIBE_OK, even
            // PUBLISH_DONE, as a failure. Its own task for an announced broadcast keeps that broadcast
            // alive.
            Abilities {
                newest_group: false,
                tells_end: false,
                own_end: true,
                loses_own_end: moqt18,
                // In 16 it usually does, but not always.
                withdraws_initial: moqt18,
                withdraws_by_fin: moqt18,
                not_found: (!moqt18).then_some(404),
                aborted: 0,
                knows_end: false,
                notices_gone: false,
                ends_with_session: moqt18,
                unsubscribes: moqt18,
                refusal_codes: false,
                reset_codes: moqt18,
                ..Abilities::MOQT
            }
        } else {
            // It resets with 0, whatever the code is.
            Abilities { not_found: Some(13), aborted: 0, ..Abilities::LITE }
        }
    }

    fn serve(&self, role: Role, versions: &[&str]) -> Listener {
        known::<Self>(versions);
        let server = moq_lite::Server::new()
            .with_publish(role.publishes().then(|| self.origin.consume()))
            .with_consume(role.subscribes().then(|| self.origin.clone()))
            .with_versions(parse(versions));
        let alpns: Vec<_> = versions.iter().map(|name| quic::alpn_of(name).to_owned()).collect();
        Listener::spawn(quic::server_config(carrier(WEB, versions)), move |connection| {
            let (server, alpns) = (server.clone(), alpns.clone());
            async move {
                let transport = match WEB {
                    true => accept(&connection, &alpns).await?,
                    false => transport(&connection)?,
                };
                let accepting = async move { server.accept(transport).await };
                let session = on_one_thread(accepting).await.map_err(failure)?;
                Ok(link(connection, session))
            }
        })
    }

    async fn dial(&self, role: Role, addr: SocketAddr, versions: &[&str]) -> Result<Link, Failure> {
        known::<Self>(versions);
        let config = quic::client_config(carrier(WEB, versions));
        let connection = super::link::connect(addr, config).await?;
        let client = moq_lite::Client::new()
            .with_publish(role.publishes().then(|| self.origin.consume()))
            .with_consume(role.subscribes().then(|| self.origin.clone()))
            .with_versions(parse(versions));
        let transport = if WEB {
            let url: url::Url = format!("https://{addr}/").parse().expect("a URL");
            let protocols = versions.iter().map(|name| quic::alpn_of(name).to_owned());
            let request = ConnectRequest::new(url).with_protocols(protocols);
            let connecting = wtq_lite016::Session::connect(connection.clone(), request);
            within("WebTransport", connecting)
                .await
                .map_err(|err| Failure::local(err.to_string()))?
        } else {
            transport(&connection)?
        };
        let connecting = on_one_thread(async move { client.connect(transport).await });
        let session = within("moq-lite 0.16.3 to connect", connecting).await.map_err(failure)?;
        Ok(link(connection, session))
    }

    fn broadcast(&self, path: &str) -> Result<Broadcast, Failure> {
        Ok(Broadcast {
            origin: self.origin.clone(),
            path: path.to_owned(),
            producer: moq_lite::Broadcast::new().produce(),
        })
    }

    fn announcements(&self) -> Announcements {
        let mut origin = self.origin.consume();
        Announcements::spawn(Self::NAME, |report| async move {
            while let Some((path, broadcast)) = origin.announced().await {
                let path = path.to_string();
                let news = match broadcast {
                    Some(_) => Announcement::Announced(path),
                    None => Announcement::Gone(path),
                };
                if report.send(news).is_err() {
                    return;
                }
            }
        })
    }

    async fn subscribe(
        &self,
        path: &str,
        track: &str,
        options: Options,
    ) -> Result<Subscription, Failure> {
        let what = format!("{path}:{track} at {}", Self::NAME);
        let broadcast = self
            .origin
            .consume()
            .get_broadcast(path)
            .ok_or_else(|| Failure::local("not announced, so the peer sends no request"))?;
        let wanted = moq_lite::Track { name: track.to_owned(), priority: options.priority };
        // In moq-transport it announces a broadcast before it listens for requests.
        let subscribing = async {
            loop {
                match broadcast.subscribe_track(&wanted) {
                    Err(moq_lite::Error::NotFound) => tokio::task::yield_now().await,
                    subscribed => return subscribed,
                }
            }
        };
        let track = within(format!("a listener for {what}"), subscribing).await.map_err(failure)?;
        Ok(Subscription::spawn(what, |report| read_track(track, report)))
    }
}

/// Runs a handshake, and so all tasks that its session spawns, on one thread shared by all such sessions.
///
/// On the control stream of draft 16 the peer queues the type and the body of an answer separately, without
/// waiting in between, from one task per request. On one thread nothing can get in between. On several
/// threads, messages of other tasks can.
async fn on_one_thread<T: Send + 'static>(
    handshake: impl Future<Output = T> + Send + 'static,
) -> T {
    static THREAD: LazyLock<tokio::runtime::Handle> = LazyLock::new(|| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    });
    THREAD.spawn(handshake).await.expect("no panic in the handshake")
}

/// A broadcast published by moq-lite 0.16.3.
pub struct Broadcast {
    origin: moq_lite::OriginProducer,
    path: String,
    producer: moq_lite::BroadcastProducer,
}

impl super::Broadcast for Broadcast {
    type Track = Track;

    fn track(&mut self, name: &str) -> Result<Track, Failure> {
        let producer = self.producer.create_track(moq_lite::Track::new(name)).map_err(failure)?;
        Ok(Track { producer })
    }

    fn announce(&mut self) -> Result<(), Failure> {
        if self.origin.publish_broadcast(self.path.as_str(), self.producer.consume()) {
            Ok(())
        } else {
            Err(Failure::local("the origin took the broadcast for a loop"))
        }
    }
}

/// A track published by moq-lite 0.16.3.
pub struct Track {
    producer: moq_lite::TrackProducer,
}

impl super::Track for Track {
    type Group = Writer;

    fn append(&mut self) -> Result<Writer, Failure> {
        Ok(Writer { producer: self.producer.append_group().map_err(failure)? })
    }

    fn create(&mut self, sequence: u64) -> Result<Writer, Failure> {
        let group = moq_lite::Group { sequence };
        Ok(Writer { producer: self.producer.create_group(group).map_err(failure)? })
    }

    fn at(&mut self, _millis: u64) {}

    fn finish(&mut self) -> Result<(), Failure> {
        self.producer.finish().map_err(failure)
    }

    fn abort(mut self, code: u16) -> Result<(), Failure> {
        self.producer.abort(moq_lite::Error::App(code)).map_err(failure)
    }

    async fn used(&self) -> Result<(), Failure> {
        within("a subscriber of the track", self.producer.used()).await.map_err(failure)
    }

    async fn unused(&self) -> Result<(), Failure> {
        within("the last subscriber to leave", self.producer.unused()).await.map_err(failure)
    }
}

/// A group written by moq-lite 0.16.3.
pub struct Writer {
    producer: moq_lite::GroupProducer,
}

impl super::Writer for Writer {
    fn sequence(&self) -> u64 {
        self.producer.sequence
    }

    fn frame(&mut self, payload: Bytes) -> Result<(), Failure> {
        self.producer.write_frame(payload).map_err(failure)
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.producer.finish().map_err(failure)
    }

    fn abort(mut self, code: u16) -> Result<(), Failure> {
        self.producer.abort(moq_lite::Error::App(code)).map_err(failure)
    }
}

async fn read_track(mut track: moq_lite::TrackConsumer, report: mpsc::UnboundedSender<Event>) {
    let mut groups = JoinSet::new();
    for arrival in 0.. {
        let mut group = match track.recv_group().await {
            Ok(Some(group)) => group,
            Ok(None) => {
                let _ = report.send(Event::TrackEnd(Ok(())));
                break;
            }
            Err(err) => {
                let _ = report.send(Event::TrackEnd(Err(failure(err))));
                break;
            }
        };
        let _ = report.send(Event::Group { arrival, sequence: group.sequence });
        let report = report.clone();
        groups.spawn(async move {
            let end = loop {
                match group.read_frame().await {
                    Ok(Some(payload)) => {
                        let _ = report.send(Event::Frame { arrival, payload, millis: None });
                    }
                    Ok(None) => break Ok(()),
                    Err(err) => break Err(failure(err)),
                }
            };
            let _ = report.send(Event::GroupEnd { arrival, end });
        });
    }
    while groups.join_next().await.is_some() {}
}

fn parse(versions: &[&str]) -> moq_lite::Versions {
    let by_name = |name: &&str| name.parse().ok();
    let parse =
        |name: &&str| moq_lite::Version::from_alpn(quic::alpn_of(name)).or_else(|| by_name(name));
    let parse = |name: &&str| parse(name).expect("a known version");
    versions.iter().map(parse).collect::<Vec<_>>().into()
}

/// A raw QUIC session in the form that this release of the transport requires: as if a CONNECT had been
/// answered with the ALPN.
pub(super) fn transport(connection: &quinn::Connection) -> Result<wtq_lite016::Session, Failure> {
    let alpn = quic::alpn(connection).ok_or_else(|| Failure::local("no ALPN"))?;
    let url: url::Url = "moqt://localhost".parse().expect("a URL");
    let request = ConnectRequest::new(url).with_protocol(alpn.as_str());
    let response = ConnectResponse::OK.with_protocol(alpn);
    Ok(wtq_lite016::Session::raw(connection.clone(), request, response))
}

/// Accepts WebTransport and picks the first protocol of the client that is one of `alpns`.
async fn accept(
    connection: &quinn::Connection,
    alpns: &[String],
) -> Result<wtq_lite016::Session, Failure> {
    let local = |err: wtq_lite016::ServerError| Failure::local(err.to_string());
    let request = wtq_lite016::Request::accept(connection.clone()).await.map_err(local)?;
    let mut response = ConnectResponse::OK;
    if let Some(chosen) = request.protocols.iter().find(|protocol| alpns.contains(*protocol)) {
        response = response.with_protocol(chosen.clone());
    }
    request.respond(response).await.map_err(local)
}

fn link(connection: quinn::Connection, session: moq_lite::Session) -> Link {
    let version = quic::name(session.version().alpn(), &session.version().to_string());
    // Dropping any clone of a session closes it, so the waiting clone must live that long.
    let waiting = session.clone();
    let closed = async move {
        match waiting.closed().await {
            Err(err) => failure(err),
            Ok(()) => Failure::local("closed"),
        }
    };
    let session = std::sync::Arc::new(Mutex::new(session));
    let abort = move || {
        let mut session = session.lock().expect("no panic under this lock");
        session.close(moq_lite::Error::Cancel);
    };
    let close = {
        let connection = connection.clone();
        let abort = abort.clone();
        move || -> std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>> {
            abort();
            let connection = connection.clone();
            Box::pin(async move {
                connection.closed().await;
                Ok(())
            })
        }
    };
    Link::new(version, abort, close, closed).over(connection)
}

fn failure(err: moq_lite::Error) -> Failure {
    let code = match err {
        moq_lite::Error::Remote(code) => Some(Code::Stream(code)),
        _ => None,
    };
    Failure { text: err.to_string(), code }
}
