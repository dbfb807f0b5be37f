//! Everything that both peers of smoq share, which is all but the connection.

use std::time::Duration;

use bytes::Bytes;
use smoq::coding::ietf::Draft;
use smoq::{
    BroadcastProducer, Error, GroupProducer, Hop, OriginProducer, TrackConsumer, TrackProducer,
    Version, Versions,
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Abilities, Announcement, Announcements, Clock, Code, Datagrams, Event, Failure, Group, Link,
    Options, Role, Subscription, has_timestamps, is_moqt,
};
use crate::within;

/// The names of the versions that smoq speaks.
pub(super) const VERSIONS: [&str; Version::ALL.len() + Version::WIP.len()] = {
    let mut names = [""; Version::ALL.len() + Version::WIP.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = match index.checked_sub(Version::ALL.len()) {
            Some(index) => Version::WIP[index].name(),
            None => Version::ALL[index].name(),
        };
        index += 1;
    }
    names
};

pub(super) fn abilities(version: &str) -> Abilities {
    // Up to 16 no scale is sent.
    let timestamps =
        has_timestamps(version) && !matches!(version, "moqt-14" | "moqt-15" | "moqt-16");
    let common = if is_moqt(version) { Abilities::MOQT } else { Abilities::LITE };
    // Application codes are the same in all versions.
    Abilities { timestamps, aborted: Abilities::LITE.aborted, knows_own_end: true, ..common }
}

fn draft(version: &str) -> Option<&'static Draft> {
    Draft::of(version.parse().expect("a known version"))
}

/// smoq has one registry for the codes of streams and requests, that of moq-lite.
pub(super) fn refused_with(version: &str, code: u32) -> Option<Code> {
    let own = draft(version).map(|draft| draft.request_error(code.into()));
    Some(own.map_or(Code::Stream(code), |error| number(&error)))
}

pub(super) fn reset_with(version: &str, code: u32) -> Code {
    let own = draft(version).map(|draft| draft.stream_error(code.into()));
    own.map_or(Code::Stream(code), |error| number(&error))
}

fn number(error: &Error) -> Code {
    let code = error.stream_code().as_u64();
    Code::Stream(u32::try_from(code).expect("a code of 32 bits"))
}

/// An origin with a hop of its own, so that loops are detected.
pub(super) fn origin() -> OriginProducer {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LAST: AtomicU64 = AtomicU64::new(1 << 40);
    smoq::Origin::new(Hop::new(LAST.fetch_add(1, Ordering::Relaxed))).produce()
}

pub(super) fn versions(versions: &[&str]) -> Versions {
    versions.iter().map(|version| version.parse().expect("a known version")).collect()
}

pub(super) fn server(origin: &OriginProducer, role: Role, versions: Versions) -> smoq::Server {
    let mut server = smoq::Server::new().with_versions(versions);
    if role.publishes() {
        server = server.with_publish(origin.consume());
    }
    if role.subscribes() {
        server = server.with_consume(origin.clone());
    }
    server
}

pub(super) fn client(origin: &OriginProducer, role: Role, versions: Versions) -> smoq::Client {
    let mut client = smoq::Client::new().with_versions(versions);
    if role.publishes() {
        client = client.with_publish(origin.consume());
    }
    if role.subscribes() {
        client = client.with_consume(origin.clone());
    }
    client
}

pub(super) fn link(session: smoq::Session) -> Link {
    let version = session.version().to_string();
    let [aborting, draining, counting, leaving, hearing, probing] =
        [(); 6].map(|()| session.clone());
    let abort = move || aborting.close(Error::Cancelled);
    let close = move || -> super::link::Closing {
        let mut session = draining.clone();
        session.drain();
        Box::pin(async move {
            session.closed().await.into_result().map_err(|error| session_failure(&error))
        })
    };
    let mut waiting = session;
    let closed = async move {
        let reason = waiting.closed().await.into_result();
        session_failure(&reason.err().unwrap_or(Error::SessionClosed))
    };
    let go_away = move |uri: &str, timeout| {
        let goaway = smoq::Goaway::default().uri(uri).timeout(timeout);
        leaving.go_away(goaway).map_err(|err| session_failure(&err))
    };
    let going_away = move || -> super::link::GoingAway {
        let mut session = hearing.clone();
        Box::pin(async move {
            Some(session.going_away().await.ok()?.uri.map(String::from).unwrap_or_default())
        })
    };
    let probe = move || -> super::link::Probing {
        let mut probe = probing.probe();
        Box::pin(async move {
            loop {
                if let Some(bitrate) = probe.changed().await.ok()?.bitrate {
                    return Some(bitrate);
                }
            }
        })
    };
    Link::new(version, abort, close, closed)
        .probing(probe)
        .counting(move || counting.stats().skipped_groups)
        .leaving(go_away, going_away)
}

pub(super) fn announcements(name: &'static str, origin: &OriginProducer) -> Announcements {
    let mut origin = origin.consume();
    Announcements::spawn(name, |report| async move {
        while let Some(announce) = origin.announced().await {
            let path = announce.path.to_string();
            let news = match announce.broadcast {
                Some(_) => Announcement::Announced(path),
                None => Announcement::Gone(path),
            };
            if report.send(news).is_err() {
                return;
            }
        }
    })
}

pub(super) fn subscribe(
    name: &str,
    origin: &OriginProducer,
    path: &str,
    track: &str,
    options: &Options,
) -> Result<Subscription, Failure> {
    let what = format!("{path}:{track} at {name}");
    let broadcast = origin
        .consume()
        .broadcast(path)
        .ok_or_else(|| Failure::local("not announced, so the peer sends no request"))?;
    let track = broadcast.subscribe_track(track, wanted(options)).map_err(|err| failure(&err))?;
    let (update, updates) = mpsc::unbounded_channel();
    Ok(Subscription::spawn(what, |report| read_track(track, updates, report)).updating(
        move |options| {
            update.send(wanted(options)).map_err(|_| Failure::local("the track has ended"))
        },
    ))
}

fn wanted(options: &Options) -> smoq::Subscription {
    let mut want =
        smoq::Subscription::default().priority(options.priority).max_age(options.max_age);
    want.start = options.start;
    want
}

fn reader(origin: &OriginProducer, path: &str, track: &str) -> Result<TrackConsumer, Failure> {
    let broadcast = origin.consume().broadcast(path);
    let broadcast = broadcast.ok_or_else(|| Failure::local("not announced"))?;
    broadcast.subscribe_track(track, smoq::Subscription::default()).map_err(|err| failure(&err))
}

pub(super) async fn fetch(
    origin: &OriginProducer,
    path: &str,
    track: &str,
    sequence: u64,
) -> Result<Group, Failure> {
    let mut track = reader(origin, path, track)?;
    let fetching = track.fetch_group(sequence);
    let mut group = within("a group by number", fetching).await.map_err(|err| failure(&err))?;
    let (mut frames, mut millis) = (Vec::new(), Vec::new());
    let end = loop {
        match within("a frame of it", group.read_frame()).await {
            Ok(Some(frame)) => {
                frames.push(frame.bytes());
                millis.push(frame.timestamp().units());
            }
            Ok(None) => break Ok(()),
            Err(err) => break Err(failure(&err)),
        }
    };
    Ok(Group { sequence: group.sequence(), frames, millis, end })
}

pub(super) fn datagrams(
    origin: &OriginProducer,
    path: &str,
    track: &str,
) -> Result<Datagrams, Failure> {
    let mut track = reader(origin, path, track)?;
    Ok(Datagrams::spawn(|report| async move {
        while let Ok(Some(mut group)) = track.recv_group().await {
            let Ok(Some(frame)) = group.read_frame().await else { continue };
            if report.send((group.sequence(), frame.bytes())).is_err() {
                return;
            }
        }
    }))
}

pub(super) fn broadcast(origin: &OriginProducer, path: &str) -> Broadcast {
    Broadcast {
        origin: origin.clone(),
        path: path.to_owned(),
        producer: smoq::Broadcast::new().produce(),
    }
}

/// A broadcast published by smoq.
pub struct Broadcast {
    origin: OriginProducer,
    path: String,
    producer: BroadcastProducer,
}

impl super::Broadcast for Broadcast {
    type Track = Track;

    fn track(&mut self, name: &str) -> Result<Track, Failure> {
        let producer = self.producer.create_track(name).map_err(|err| failure(&err))?;
        Ok(Track { producer, clock: Clock::new() })
    }

    fn announce(&mut self) -> Result<(), Failure> {
        let announced = self.origin.publish_broadcast(self.path.as_str(), &self.producer.consume());
        announced.map_err(|err| failure(&err))
    }
}

/// A track published by smoq.
pub struct Track {
    producer: TrackProducer,
    clock: Clock,
}

impl super::Track for Track {
    type Group = Writer;

    fn append(&mut self) -> Result<Writer, Failure> {
        let producer = self.producer.append_group().map_err(|err| failure(&err))?;
        Ok(Writer { producer, clock: self.clock })
    }

    fn create(&mut self, sequence: u64) -> Result<Writer, Failure> {
        let producer = self.producer.create_group(sequence).map_err(|err| failure(&err))?;
        Ok(Writer { producer, clock: self.clock })
    }

    fn at(&mut self, millis: u64) {
        self.clock = Clock::At(millis);
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.producer.finish().map_err(|err| failure(&err))
    }

    fn abort(mut self, code: u16) -> Result<(), Failure> {
        self.producer.abort(Error::App(code.into()));
        Ok(())
    }

    async fn used(&self) -> Result<(), Failure> {
        let mut producer = self.producer.clone();
        within("a subscriber of the track", producer.used()).await.map_err(|err| failure(&err))
    }

    async fn unused(&self) -> Result<(), Failure> {
        let mut producer = self.producer.clone();
        within("the last subscriber to leave", producer.unused()).await.map_err(|err| failure(&err))
    }
}

impl super::ModernTrack for Track {
    fn datagram(&mut self, payload: Bytes) -> Result<(), Failure> {
        let millis = self.clock.millis();
        self.producer.write_datagram(millis, payload).map_err(|err| failure(&err))
    }

    async fn wanted(&mut self, priority: u8, max_age: Duration) -> Result<(), Failure> {
        let mut is = self.producer.subscription();
        while is.is_none_or(|is| (is.priority, is.max_age) != (priority, max_age)) {
            is = within("another subscription", self.producer.subscription_changed()).await;
        }
        Ok(())
    }
}

/// A group written by smoq.
pub struct Writer {
    producer: GroupProducer,
    clock: Clock,
}

impl super::Writer for Writer {
    fn sequence(&self) -> u64 {
        self.producer.sequence()
    }

    fn frame(&mut self, payload: Bytes) -> Result<(), Failure> {
        self.producer.write_frame(self.clock.millis(), payload).map_err(|err| failure(&err))
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.producer.finish().map_err(|err| failure(&err))
    }

    fn abort(mut self, code: u16) -> Result<(), Failure> {
        self.producer.abort(Error::App(code.into()));
        Ok(())
    }
}

async fn read_track(
    mut track: TrackConsumer,
    mut updates: mpsc::UnboundedReceiver<smoq::Subscription>,
    report: mpsc::UnboundedSender<Event>,
) {
    let mut groups = JoinSet::new();
    for arrival in 0.. {
        let next = loop {
            tokio::select! {
                next = track.recv_group() => break next,
                Some(want) = updates.recv() => track.update(want),
            }
        };
        let mut group = match next {
            Ok(Some(group)) => group,
            Ok(None) => {
                let _ = report.send(Event::TrackEnd(Ok(())));
                break;
            }
            Err(err) => {
                let _ = report.send(Event::TrackEnd(Err(failure(&err))));
                break;
            }
        };
        let _ = report.send(Event::Group { arrival, sequence: group.sequence() });
        let report = report.clone();
        // The tracks here have the default timescale of milliseconds.
        groups.spawn(async move {
            let end = loop {
                match group.read_frame().await {
                    Ok(Some(frame)) => {
                        let (payload, millis) = (frame.bytes(), Some(frame.timestamp().units()));
                        let _ = report.send(Event::Frame { arrival, payload, millis });
                    }
                    Ok(None) => break Ok(()),
                    Err(err) => break Err(failure(&err)),
                }
            };
            let _ = report.send(Event::GroupEnd { arrival, end });
        });
    }
    while groups.join_next().await.is_some() {}
}

/// smoq's errors do not show on which side they occurred. The code is the one on the wire.
pub(super) fn failure(err: &Error) -> Failure {
    let code = u32::try_from(err.stream_code().as_u64()).ok();
    Failure { text: err.to_string(), code: code.map(Code::Stream) }
}

fn session_failure(err: &Error) -> Failure {
    let code = u32::try_from(err.session_code().as_u64()).ok();
    Failure { text: err.to_string(), code: code.map(Code::Session) }
}
