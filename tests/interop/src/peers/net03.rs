//! moq-net 0.3.18, over web-transport-quinn 0.12.

use std::{
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use wtq_net03::proto::{ConnectRequest, ConnectResponse};

use super::{
    Abilities, Announcement, Announcements, Clock, Code, Datagrams, Event, Failure, Group, Link,
    Listener, Options, Role, Subscription, carrier, has_timestamps, is_moqt, known,
};
use crate::{quic, within};

/// A peer that runs moq-net 0.3.18.
pub type Peer = PeerOn<false>;

/// The peer on WebTransport over HTTP/3 (`WEB`), or on raw QUIC.
pub struct PeerOn<const WEB: bool> {
    origin: moq_net::origin::Producer,
    driver: AbortHandle,
}

impl<const WEB: bool> super::Peer for PeerOn<WEB> {
    const NAME: &'static str = "moq-net 0.3.18";
    const VERSIONS: &'static [&'static str] = &[
        "moq-lite-01",
        "moq-lite-02",
        "moq-lite-03",
        "moq-lite-04",
        "moq-lite-05",
        "moq-lite-06",
        "moq-lite-07-wip",
        "moqt-14",
        "moqt-15",
        "moqt-16",
        "moqt-17",
        "moqt-18",
        "moqt-19",
        "moqt-20",
        "moqt-21",
        "moqt-22",
    ];

    type Broadcast = Broadcast;

    fn new() -> Self {
        let config = moq_net::origin::Config::new(moq_net::Hop::random());
        let (origin, driver) = moq_net::origin::Producer::new(config);
        let driver = tokio::spawn(moq_net::time::run(driver)).abort_handle();
        Self { origin, driver }
    }

    fn abilities(version: &str) -> Abilities {
        match version {
            "moqt-14" | "moqt-15" | "moqt-16" => {
                // Sends timestamps without their scale, and reads none then. Reports no reset codes.
                Abilities { timestamps: false, reset_codes: false, ..Abilities::MOQT }
            }
            _ if is_moqt(version) => {
                Abilities { timestamps: true, withdraws_by_fin: true, ..Abilities::MOQT }
            }
            // It forgets the broadcasts that it sent in ANNOUNCE_INIT.
            "moq-lite-01" | "moq-lite-02" => {
                Abilities { withdraws_initial: false, ..Abilities::LITE }
            }
            _ => Abilities { timestamps: has_timestamps(version), ..Abilities::LITE },
        }
    }

    fn serve(&self, role: Role, versions: &[&str]) -> Listener {
        known::<Self>(versions);
        let mut server = moq_net::Server::new().with_versions(parse(versions));
        if role.publishes() {
            server = server.with_publisher(self.origin.consume());
        }
        if role.subscribes() {
            server = server.with_subscriber(self.origin.clone());
        }
        let alpns: Vec<_> = versions.iter().map(|name| quic::alpn_of(name).to_owned()).collect();
        Listener::spawn(quic::server_config(carrier(WEB, versions)), move |connection| {
            let (server, alpns) = (server.clone(), alpns.clone());
            async move {
                let transport = match WEB {
                    true => accept(&connection, &alpns).await?,
                    false => wtq_net03::Session::raw(connection.clone()),
                };
                let (session, driver) =
                    server.accept(Instant::now(), transport).await.map_err(failure)?;
                tokio::spawn(moq_net::time::run(driver));
                Ok(link(connection, session))
            }
        })
    }

    async fn dial(&self, role: Role, addr: SocketAddr, versions: &[&str]) -> Result<Link, Failure> {
        known::<Self>(versions);
        let config = quic::client_config(carrier(WEB, versions));
        let connection = super::link::connect(addr, config).await?;
        let mut client = moq_net::Client::new().with_versions(parse(versions));
        if role.publishes() {
            client = client.with_publisher(self.origin.consume());
        }
        if role.subscribes() {
            client = client.with_subscriber(self.origin.clone());
        }
        let transport = if WEB {
            let url: url::Url = format!("https://{addr}/").parse().expect("a URL");
            let protocols = versions.iter().map(|name| quic::alpn_of(name).to_owned());
            let request = ConnectRequest::new(url).with_protocols(protocols);
            let connecting = wtq_net03::Session::connect(connection.clone(), request);
            within("WebTransport", connecting)
                .await
                .map_err(|err| Failure::local(err.to_string()))?
        } else {
            wtq_net03::Session::raw(connection.clone())
        };
        let connecting = client.connect(Instant::now(), transport);
        let (session, driver) =
            within("moq-net 0.3.18 to connect", connecting).await.map_err(failure)?;
        tokio::spawn(moq_net::time::run(driver));
        Ok(link(connection, session))
    }

    fn broadcast(&self, path: &str) -> Result<Broadcast, Failure> {
        Ok(Broadcast { producer: self.origin.create_broadcast(path).map_err(failure)? })
    }

    fn announcements(&self) -> Announcements {
        let mut announced = self.origin.consume().announced();
        Announcements::spawn(Self::NAME, |report| async move {
            while let Some(update) = announced.next().await {
                let path = update.prefix.to_string();
                let news = match update.kind {
                    moq_net::announce::Kind::Announced => Announcement::Announced(path),
                    moq_net::announce::Kind::Updated => Announcement::Updated(path),
                    moq_net::announce::Kind::Retracted => Announcement::Gone(path),
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
        let requested = self.origin.consume().request_broadcast(path);
        let broadcast =
            within(format!("an answer for {what}"), requested).await.map_err(failure)?;
        let subscribing = broadcast.track(track).map_err(failure)?.subscribe(wanted(&options));
        let track = within(format!("an answer for {what}"), subscribing).await.map_err(failure)?;
        let control = track.control();
        // The broadcast is held as long as the subscription, as an application would.
        Ok(Subscription::spawn(what, |report| read_track(broadcast, track, report))
            .updating(move |options| control.update(wanted(options)).map_err(failure)))
    }
}

impl super::Modern for Peer {
    async fn fetch(&self, path: &str, track: &str, sequence: u64) -> Result<Group, Failure> {
        let requested = self.origin.consume().request_broadcast(path);
        let broadcast = within("a broadcast", requested).await.map_err(failure)?;
        // On moq-transport it cancels the FETCH of a group that is still read if its track is dropped.
        let track = broadcast.track(track).map_err(failure)?;
        let fetching = track.fetch_group(sequence, None);
        let mut group = within("a group by number", fetching).await.map_err(failure)?;
        let (mut frames, mut millis) = (Vec::new(), Vec::new());
        let end = loop {
            match within("a frame of it", group.read_frame()).await {
                Ok(Some(frame)) => {
                    frames.push(frame.payload);
                    millis.push(frame.timestamp.as_scale(moq_net::Timescale::MILLI) as u64);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(failure(error)),
            }
        };
        drop(track);
        Ok(Group { sequence: group.sequence, frames, millis, end })
    }

    async fn datagrams(&self, path: &str, track: &str) -> Result<Datagrams, Failure> {
        let requested = self.origin.consume().request_broadcast(path);
        let broadcast = within("a broadcast", requested).await.map_err(failure)?;
        let subscribing = broadcast.track(track).map_err(failure)?.subscribe(None);
        let mut track = within("an answer", subscribing).await.map_err(failure)?;
        Ok(Datagrams::spawn(|report| async move {
            let _broadcast = broadcast;
            while let Ok(Some(datagram)) = track.recv_datagram().await {
                if report.send((datagram.sequence, datagram.payload)).is_err() {
                    return;
                }
            }
        }))
    }
}

/// Accepts WebTransport and picks the first protocol of the client that is one of `alpns`.
async fn accept(
    connection: &quinn::Connection,
    alpns: &[String],
) -> Result<wtq_net03::Session, Failure> {
    let local = |err: wtq_net03::ServerError| Failure::local(err.to_string());
    let request = wtq_net03::Request::accept(connection.clone()).await.map_err(local)?;
    let mut response = ConnectResponse::OK;
    if let Some(chosen) = request.protocols.iter().find(|protocol| alpns.contains(*protocol)) {
        response = response.with_protocol(chosen.clone());
    }
    request.respond(response).await.map_err(local)
}

fn wanted(options: &Options) -> moq_net::track::Subscription {
    moq_net::track::Subscription::default()
        .with_priority(options.priority)
        .with_max_age(options.max_age)
        .with_start(options.start.map(moq_net::track::Position::group))
}

impl<const WEB: bool> Drop for PeerOn<WEB> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A broadcast published by moq-net 0.3.18.
pub struct Broadcast {
    producer: moq_net::broadcast::Producer,
}

impl super::Broadcast for Broadcast {
    type Track = Track;

    fn track(&mut self, name: &str) -> Result<Track, Failure> {
        let info = moq_net::track::Info::default().with_timescale(moq_net::Timescale::MILLI);
        let producer = self.producer.create_track(name, info).map_err(failure)?;
        Ok(Track { producer, clock: Clock::new() })
    }

    fn announce(&mut self) -> Result<(), Failure> {
        self.producer.announce(moq_net::origin::Route::default()).map_err(failure)
    }
}

/// A track published by moq-net 0.3.18.
pub struct Track {
    producer: moq_net::track::Producer,
    clock: Clock,
}

impl super::Track for Track {
    type Group = Writer;

    fn append(&mut self) -> Result<Writer, Failure> {
        let producer = self.producer.append_group().map_err(failure)?;
        Ok(Writer { producer, clock: self.clock })
    }

    fn create(&mut self, sequence: u64) -> Result<Writer, Failure> {
        let producer = self.producer.create_group(sequence.into()).map_err(failure)?;
        Ok(Writer { producer, clock: self.clock })
    }

    fn at(&mut self, millis: u64) {
        self.clock = Clock::At(millis);
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.producer.finish().map_err(failure)
    }

    fn abort(self, code: u16) -> Result<(), Failure> {
        self.producer.abort(moq_net::Error::App(code)).map_err(failure)
    }

    async fn used(&self) -> Result<(), Failure> {
        within("a subscriber of the track", self.producer.used()).await.map_err(failure)
    }

    async fn unused(&self) -> Result<(), Failure> {
        within("the last subscriber to leave", self.producer.unused()).await.map_err(failure)
    }
}

impl super::ModernTrack for Track {
    fn datagram(&mut self, payload: Bytes) -> Result<(), Failure> {
        self.producer.append_datagram(timestamp(self.clock), payload).map(drop).map_err(failure)
    }

    async fn wanted(&mut self, priority: u8, max_age: Duration) -> Result<(), Failure> {
        let mut is = self.producer.subscription();
        while is.is_none_or(|is| (is.priority, is.max_age) != (priority, max_age)) {
            let change = self.producer.subscription_changed();
            is = within("another subscription", change).await.map_err(failure)?;
        }
        Ok(())
    }
}

/// A group written by moq-net 0.3.18.
pub struct Writer {
    producer: moq_net::group::Producer,
    clock: Clock,
}

impl super::Writer for Writer {
    fn sequence(&self) -> u64 {
        self.producer.sequence
    }

    fn frame(&mut self, payload: Bytes) -> Result<(), Failure> {
        self.producer.write_frame(timestamp(self.clock), payload).map_err(failure)
    }

    fn finish(self) -> Result<(), Failure> {
        self.producer.finish().map_err(failure)
    }

    fn abort(self, code: u16) -> Result<(), Failure> {
        self.producer.abort(moq_net::Error::App(code)).map_err(failure)
    }
}

async fn read_track(
    _broadcast: moq_net::broadcast::Consumer,
    mut track: moq_net::track::Subscriber,
    report: mpsc::UnboundedSender<Event>,
) {
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
                    Ok(Some(frame)) => {
                        let millis =
                            Some(frame.timestamp.as_scale(moq_net::Timescale::MILLI) as u64);
                        let _ =
                            report.send(Event::Frame { arrival, payload: frame.payload, millis });
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

fn timestamp(clock: Clock) -> moq_net::Timestamp {
    moq_net::Timestamp::from_millis(clock.millis()).expect("a timestamp below 2^62")
}

fn parse(versions: &[&str]) -> moq_net::Versions {
    let by_name = |name: &&str| name.parse().ok();
    let parse =
        |name: &&str| moq_net::Version::from_alpn(quic::alpn_of(name)).or_else(|| by_name(name));
    let parse = |name: &&str| parse(name).expect("a known version");
    versions.iter().map(parse).collect::<Vec<_>>().into()
}

fn link(connection: quinn::Connection, session: moq_net::Session) -> Link {
    let version = quic::name(session.version().alpn(), session.version().as_str());
    let waiting = session.clone();
    let closed = async move { failure(waiting.closed().await) };
    let [closing, leaving, hearing, probing] = [(); 4].map(|()| session.clone());
    let abort = move || session.abort(moq_net::Error::Cancel);
    let close = move || -> std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>> {
        let session = closing.clone();
        Box::pin(async move { session.close().await.map_err(failure) })
    };
    let probe = move || -> super::link::Probing {
        let bandwidth = probing.recv_bandwidth();
        Box::pin(async move {
            let mut bandwidth = bandwidth?;
            loop {
                if let Some(bitrate) = bandwidth.changed().await.ok()? {
                    return Some(bitrate.as_bps());
                }
            }
        })
    };
    let go_away = move |uri: &str, timeout| {
        let goaway = moq_net::goaway::Goaway::redirect(uri).with_timeout(timeout);
        leaving.drain().send(goaway).map_err(failure)
    };
    let going_away = move || -> super::link::GoingAway {
        let goaway = hearing.draining();
        Box::pin(async move { goaway.recv().await.map(|goaway| goaway.uri().to_owned()) })
    };
    Link::new(version, abort, close, closed)
        .over(connection)
        .leaving(go_away, going_away)
        .probing(probe)
}

fn failure(err: moq_net::Error) -> Failure {
    let code = match &err {
        moq_net::Error::Stream(err) => Some(Code::Stream(err.to_code())),
        moq_net::Error::Session(err) => Some(Code::Session(err.to_code())),
        // The codes of REQUEST_ERROR that occur here.
        moq_net::Error::NotFound => Some(Code::Request(0x10)),
        moq_net::Error::Remote(code) => Some(Code::Request(*code)),
        _ => None,
    };
    Failure { text: err.to_string(), code }
}
