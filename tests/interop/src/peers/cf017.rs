//! Cloudflare's moq-transport 0.17.0, over web-transport-quinn 0.11.
//!
//! The crate has sessions and tracks but no origin, so there is a small one here. Each session does what
//! the crate's own programs do on its side. The dialing side offers its namespaces by PUBLISH_NAMESPACE and
//! requests others by SUBSCRIBE_NAMESPACE. The listening side accepts the former and answers the latter.

mod origin;
mod read;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use moq_transport::{
    coding::{KeyValuePairs, TrackNamespace, TrackNamespacePrefix},
    serve::{ServeError, Subgroup, SubgroupWriter, SubgroupsWriter, TrackReader},
    session::{
        NamespaceEvent, Publisher, Session, SessionError, SubscribedNamespace, Subscriber,
        Transport,
    },
};
use tokio::{sync::watch, task::JoinSet};

use self::{
    origin::{Changes, Origin, Source, Tracks, Users, new_track, path_of},
    read::read_track,
};
use super::{
    Abilities, Announcement, Announcements, Code, Failure, Link, Listener, Options, Role,
    Subscription, known, lite016,
};
use crate::{quic, within};

/// A peer that runs moq-transport 0.17.0.
pub struct Peer {
    origin: Origin,
}

impl super::Peer for Peer {
    const NAME: &'static str = "moq-transport 0.17.0";
    const VERSIONS: &'static [&'static str] = &["moqt-18"];

    type Broadcast = Broadcast;

    fn new() -> Self {
        Self { origin: Origin::default() }
    }

    fn abilities(_version: &str) -> Abilities {
        Abilities {
            newest_group: false,
            // EXCESSIVE_LOAD happens to be code 9.
            aborted: 9,
            notices_fin: false,
            reset_codes: false,
            ..Abilities::MOQT
        }
    }

    fn serve(&self, role: Role, versions: &[&str]) -> Listener {
        known::<Self>(versions);
        let origin = self.origin.clone();
        Listener::spawn(quic::server_config(versions), move |connection| {
            let origin = origin.clone();
            async move {
                let transport = lite016::transport(&connection)?.into();
                let joined = Session::accept(transport, None, Transport::RawQuic).await;
                let (session, publisher, subscriber) = joined.map_err(session_failure)?;
                let halves = (publisher.expect("a half"), subscriber.expect("a half"));
                Ok(run(origin, role, Side::Listens, connection, session, halves))
            }
        })
    }

    async fn dial(&self, role: Role, addr: SocketAddr, versions: &[&str]) -> Result<Link, Failure> {
        known::<Self>(versions);
        let connection = super::link::connect(addr, quic::client_config(versions)).await?;
        let transport = lite016::transport(&connection)?.into();
        let connecting = Session::connect(transport, None, Transport::RawQuic);
        let joined = within("moq-transport 0.17.0 to connect", connecting).await;
        let (session, publisher, subscriber) = joined.map_err(session_failure)?;
        let halves = (publisher, subscriber);
        Ok(run(self.origin.clone(), role, Side::Dials, connection, session, halves))
    }

    fn broadcast(&self, path: &str) -> Result<Broadcast, Failure> {
        let source = Arc::new(Source { from: 0, tracks: Tracks::Own(Mutex::default()) });
        Ok(Broadcast { origin: self.origin.clone(), path: path.to_owned(), source })
    }

    fn announcements(&self) -> Announcements {
        let mut changes = self.origin.changes();
        Announcements::spawn(Self::NAME, |report| async move {
            while let Some((path, source)) = changes.next().await {
                let news = match source {
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
        _options: Options,
    ) -> Result<Subscription, Failure> {
        let what = format!("{path}:{track} at {}", Self::NAME);
        let source = self
            .origin
            .get(path)
            .ok_or_else(|| Failure::local("not announced, so the peer sends no request"))?;
        let Tracks::Elsewhere(subscriber) = &source.tracks else {
            return Err(Failure::local("a track of this origin's own"));
        };
        let (writer, reader) = new_track(path, track);
        let mut subscriber = Subscriber::clone(subscriber);
        let opening = subscriber.subscribe_open(writer);
        let subscribed = within(format!("an answer for {what}"), opening).await.map_err(failure)?;
        Ok(Subscription::spawn(what, |report| read_track(subscribed, reader, report)))
    }
}

/// Which side of the connection this is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Dials,
    Listens,
}

/// Runs a session with the origin.
fn run(
    origin: Origin,
    role: Role,
    side: Side,
    connection: quinn::Connection,
    session: Session,
    (publisher, subscriber): (Publisher, Subscriber),
) -> Link {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let ended = async move {
        let mut halves = JoinSet::new();
        if role.publishes() {
            halves.spawn(serve_tracks(origin.clone(), publisher.clone()));
            match side {
                Side::Dials => halves.spawn(offer(origin.clone(), id, publisher)),
                Side::Listens => halves.spawn(answer(origin.clone(), id, publisher)),
            };
        }
        if role.subscribes() {
            let origin = origin.clone();
            match side {
                Side::Dials => halves.spawn(ask(origin, id, subscriber)),
                Side::Listens => halves.spawn(take(origin, id, subscriber)),
            };
        }
        let ended = session.run().await;
        halves.shutdown().await;
        origin.broadcasts.send_if_modified(|broadcasts| {
            let before = broadcasts.len();
            broadcasts.retain(|_, source| source.from != id);
            before != broadcasts.len()
        });
        match ended {
            Ok(()) => Failure::local("closed"),
            Err(err) => session_failure(err),
        }
    };
    let aborting = connection.clone();
    let abort = move || aborting.close(0u32.into(), b"");
    let closing = connection.clone();
    let close = move || -> super::link::Closing {
        closing.close(0u32.into(), b"");
        let connection = closing.clone();
        Box::pin(async move {
            connection.closed().await;
            Ok(())
        })
    };
    Link::new("moqt-18".to_owned(), abort, close, ended).over(connection)
}

/// Serves subscriptions for namespaces that were not offered by PUBLISH_NAMESPACE.
async fn serve_tracks(origin: Origin, mut publisher: Publisher) {
    let mut serving = JoinSet::new();
    while let Some(subscribed) = publisher.subscribed().await {
        match origin.get(&path_of(&subscribed.track_namespace)) {
            Some(source) => {
                serving.spawn(async move { source.serve(subscribed).await });
            }
            None => {
                let _ = subscribed.close(ServeError::NotFound);
            }
        }
        while serving.try_join_next().is_some() {}
    }
}

/// Sends PUBLISH_NAMESPACE for everything in the origin except what came from this session.
async fn offer(origin: Origin, id: u64, mut publisher: Publisher) {
    let mut refusing = publisher.clone();
    let mut changes = origin.changes();
    let mut offered: HashMap<String, watch::Sender<()>> = HashMap::new();
    let mut serving = JoinSet::new();
    loop {
        let (path, source) = tokio::select! {
            change = changes.next() => match change {
                Some(change) => change,
                None => return,
            },
            // Dropping it refuses it: the peer gets all offers without a request.
            Some(_) = refusing.subscribed_namespace() => continue,
        };
        match source {
            Some(source) if source.from != id => {
                let (withdrawal, mut withdrawn) = watch::channel(());
                let namespace = TrackNamespace::from_utf8_path(&path);
                let Ok(offer) = publisher.publish_namespace_start(namespace).await else {
                    continue;
                };
                offered.insert(path, withdrawal);
                serving.spawn(async move {
                    let mut tracks = JoinSet::new();
                    loop {
                        tokio::select! {
                            // The crate does not report that its sender is gone.
                            _ = withdrawn.changed() => break,
                            subscribed = offer.subscribed() => match subscribed {
                                Ok(Some(subscribed)) => {
                                    let source = source.clone();
                                    tracks.spawn(async move { source.serve(subscribed).await });
                                }
                                _ => break,
                            },
                        }
                    }
                    // Withdrawn before the tracks end, as they may continue.
                    drop(offer);
                    while tracks.join_next().await.is_some() {}
                });
            }
            Some(_) => {}
            None => drop(offered.remove(&path)),
        }
    }
}

/// Answers each SUBSCRIBE_NAMESPACE.
async fn answer(origin: Origin, id: u64, mut publisher: Publisher) {
    let mut answering = JoinSet::new();
    while let Some(asked) = publisher.subscribed_namespace().await {
        answering.spawn(feed(origin.changes(), id, asked));
    }
}

async fn feed(mut changes: Changes, id: u64, mut asked: SubscribedNamespace) {
    let _ = asked.ok();
    let mut announced = BTreeMap::new();
    while let Some((path, source)) = changes.next().await {
        let namespace = TrackNamespace::from_utf8_path(&path);
        let done = match source {
            Some(source) if source.from == id => continue,
            Some(_) if namespace.strip_prefix(&asked.namespace_prefix).is_none() => continue,
            Some(_) => {
                announced.insert(path, ());
                asked.namespace(&namespace)
            }
            None if announced.remove(&path).is_some() => asked.namespace_done(&namespace),
            None => continue,
        };
        if done.is_err() {
            return;
        }
    }
}

/// Sends SUBSCRIBE_NAMESPACE for everything.
async fn ask(origin: Origin, id: u64, subscriber: Subscriber) {
    let mut asking = subscriber.clone();
    let asked = asking.subscribe_namespace(TrackNamespacePrefix::new(), KeyValuePairs::default());
    let Ok(asked) = asked.await else { return };
    let mut refusing = subscriber.clone();
    loop {
        let event = tokio::select! {
            event = asked.next() => event,
            // Dropping it refuses it: this side requested everything already.
            Some(_) = refusing.published_namespace() => continue,
        };
        match event {
            Ok(Some(NamespaceEvent::Added(namespace))) => {
                let tracks = Tracks::Elsewhere(Box::new(subscriber.clone()));
                origin.insert(path_of(&namespace), Arc::new(Source { from: id, tracks }));
            }
            Ok(Some(NamespaceEvent::Removed(namespace))) => {
                let path = path_of(&namespace);
                if let Some(source) = origin.get(&path).filter(|source| source.from == id) {
                    origin.remove(&path, &source);
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// Accepts offers by PUBLISH_NAMESPACE.
async fn take(origin: Origin, id: u64, mut subscriber: Subscriber) {
    let mut offers = JoinSet::new();
    while let Some(mut offered) = subscriber.published_namespace().await {
        let (origin, tracks) = (origin.clone(), Tracks::Elsewhere(Box::new(subscriber.clone())));
        offers.spawn(async move {
            if offered.ok().is_err() {
                return;
            }
            let path = path_of(&offered.namespace);
            let source = Arc::new(Source { from: id, tracks });
            origin.insert(path.clone(), source.clone());
            let _ = offered.closed().await;
            origin.remove(&path, &source);
        });
    }
}

/// A broadcast published by moq-transport 0.17.0.
pub struct Broadcast {
    origin: Origin,
    path: String,
    source: Arc<Source>,
}

impl super::Broadcast for Broadcast {
    type Track = Track;

    fn track(&mut self, name: &str) -> Result<Track, Failure> {
        let (writer, reader) = new_track(&self.path, name);
        let users = Users::new(watch::Sender::new(0));
        if let Tracks::Own(tracks) = &self.source.tracks {
            let mut tracks = tracks.lock().expect("no panic under this lock");
            tracks.insert(name.to_owned(), (reader.clone(), users.clone()));
        }
        let writer = writer.subgroups().map_err(failure)?;
        Ok(Track { writer: Some(writer), _reader: reader, users, next: 0 })
    }

    fn announce(&mut self) -> Result<(), Failure> {
        self.origin.insert(self.path.clone(), self.source.clone());
        Ok(())
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        self.origin.remove(&self.path, &self.source);
    }
}

/// A track published by moq-transport 0.17.0.
pub struct Track {
    /// `None` once the track has ended.
    writer: Option<SubgroupsWriter>,
    /// Writing requires a reader.
    _reader: TrackReader,
    users: Users,
    next: u64,
}

impl super::Track for Track {
    type Group = Writer;

    fn append(&mut self) -> Result<Writer, Failure> {
        self.create(self.next)
    }

    fn create(&mut self, sequence: u64) -> Result<Writer, Failure> {
        let writer = self.writer.as_mut().ok_or_else(|| Failure::local("the track has ended"))?;
        let group = Subgroup { group_id: sequence, subgroup_id: 0, priority: 128 };
        let writer = writer.create(group).map_err(failure)?;
        self.next = sequence + 1;
        Ok(Writer { sequence, writer })
    }

    fn at(&mut self, _millis: u64) {}

    fn finish(&mut self) -> Result<(), Failure> {
        // Dropping it is a clean end.
        self.writer.take().map(drop).ok_or_else(|| Failure::local("the track has ended"))
    }

    fn abort(mut self, code: u16) -> Result<(), Failure> {
        let writer = self.writer.take().ok_or_else(|| Failure::local("the track has ended"))?;
        writer.close(ServeError::Closed(code.into())).map_err(failure)
    }

    async fn used(&self) -> Result<(), Failure> {
        let mut users = self.users.subscribe();
        let used = users.wait_for(|users| *users > 0);
        within("a subscriber of the track", used).await.map(drop).map_err(|_| gone())
    }

    async fn unused(&self) -> Result<(), Failure> {
        let mut users = self.users.subscribe();
        let unused = users.wait_for(|users| *users == 0);
        within("the last subscriber to leave", unused).await.map(drop).map_err(|_| gone())
    }
}

fn gone() -> Failure {
    Failure::local("the track is gone")
}

impl Drop for Track {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            let _ = writer.close(ServeError::Cancel);
        }
    }
}

/// A group written by moq-transport 0.17.0: its subgroup 0.
pub struct Writer {
    sequence: u64,
    writer: SubgroupWriter,
}

impl super::Writer for Writer {
    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn frame(&mut self, payload: Bytes) -> Result<(), Failure> {
        self.writer.write(payload).map_err(failure)
    }

    fn finish(self) -> Result<(), Failure> {
        self.writer.finish().map_err(failure)
    }

    fn abort(self, code: u16) -> Result<(), Failure> {
        self.writer.close(ServeError::Closed(code.into())).map_err(failure)
    }
}

fn failure(err: ServeError) -> Failure {
    let code = match &err {
        ServeError::NotFound | ServeError::NotFoundWithId(..) => Some(Code::Request(0x10)),
        ServeError::NotImplemented(_) => Some(Code::Request(0x3)),
        ServeError::Closed(code) => u32::try_from(*code).ok().map(Code::Request),
        _ => None,
    };
    Failure { text: err.to_string(), code }
}

fn session_failure(err: SessionError) -> Failure {
    let code = match &err {
        SessionError::WebTransport(err) => err.session_error().map(|(code, _)| Code::Session(code)),
        _ => None,
    };
    Failure { text: err.to_string(), code }
}
