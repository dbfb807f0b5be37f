//! The origin that moq-transport 0.17.0 lacks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use moq_transport::{
    coding::TrackNamespace,
    serve::{ServeError, Track, TrackReader, TrackWriter},
    session::{Subscribed, Subscriber},
};
use tokio::sync::watch;

/// The announced broadcasts, by path.
#[derive(Clone, Default)]
pub(super) struct Origin {
    pub(super) broadcasts: watch::Sender<Broadcasts>,
}

pub(super) type Broadcasts = BTreeMap<String, Arc<Source>>;

impl Origin {
    pub(super) fn get(&self, path: &str) -> Option<Arc<Source>> {
        self.broadcasts.borrow().get(path).cloned()
    }

    /// The peer's own broadcast stays, because a relay may announce it back.
    pub(super) fn insert(&self, path: String, source: Arc<Source>) {
        self.broadcasts.send_if_modified(|broadcasts| {
            let own = broadcasts.get(&path).is_some_and(|known| known.from == 0);
            if !own {
                broadcasts.insert(path, source);
            }
            !own
        });
    }

    /// Removes the broadcast unless another one has taken the path since.
    pub(super) fn remove(&self, path: &str, source: &Arc<Source>) {
        self.broadcasts.send_if_modified(|broadcasts| {
            let ours = broadcasts.get(path).is_some_and(|other| Arc::ptr_eq(other, source));
            ours && broadcasts.remove(path).is_some()
        });
    }

    pub(super) fn changes(&self) -> Changes {
        let mut now = self.broadcasts.subscribe();
        now.mark_changed();
        Changes { now, announced: Broadcasts::new() }
    }
}

/// The changes in an origin.
pub(super) struct Changes {
    now: watch::Receiver<Broadcasts>,
    announced: Broadcasts,
}

impl Changes {
    /// The next path that is new (with its source) or gone; `None` after the origin's end.
    pub(super) async fn next(&mut self) -> Option<(String, Option<Arc<Source>>)> {
        loop {
            let change = {
                let now = self.now.borrow_and_update();
                let same = |path: &String, source: &Arc<Source>, other: &Broadcasts| {
                    other.get(path).is_some_and(|other| Arc::ptr_eq(source, other))
                };
                let gone = self.announced.iter().find(|(path, source)| !same(path, source, &now));
                let new = now.iter().find(|(path, source)| !same(path, source, &self.announced));
                match (gone, new) {
                    (Some((path, _)), _) => Some((path.clone(), None)),
                    (None, Some((path, source))) => Some((path.clone(), Some(source.clone()))),
                    (None, None) => None,
                }
            };
            match change {
                Some((path, source)) => {
                    match &source {
                        Some(source) => self.announced.insert(path.clone(), source.clone()),
                        None => self.announced.remove(&path),
                    };
                    return Some((path, source));
                }
                None => self.now.changed().await.ok()?,
            }
        }
    }
}

/// The source of a broadcast's tracks.
pub(super) struct Source {
    /// The session, or zero for this peer itself.
    pub(super) from: u64,
    pub(super) tracks: Tracks,
}

pub(super) enum Tracks {
    Own(Mutex<HashMap<String, (TrackReader, Users)>>),
    Elsewhere(Box<Subscriber>),
}

/// The number of subscribers of a track.
pub(super) type Users = Arc<watch::Sender<usize>>;

/// One subscriber of a track, as long as it lives.
pub(super) struct User(Users);

impl User {
    fn new(users: &Users) -> Self {
        users.send_modify(|users| *users += 1);
        Self(users.clone())
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.0.send_modify(|users| *users -= 1);
    }
}

impl Source {
    /// Serves one subscription to its end. A track of another session gets a subscription of its own there.
    pub(super) async fn serve(&self, subscribed: Subscribed) {
        let path = path_of(&subscribed.track_namespace);
        let name = subscribed.track_name.to_string_lossy().into_owned();
        match &self.tracks {
            Tracks::Own(tracks) => {
                let found = tracks.lock().expect("no panic under this lock").get(&name).cloned();
                match found {
                    Some((reader, users)) => {
                        // Determined before the test sees the subscriber, so that everything it writes then
                        // comes later.
                        let largest = reader.largest_location();
                        let _user = User::new(&users);
                        let _ = subscribed.serve_with_largest_location(reader, largest).await;
                    }
                    None => {
                        let _ = subscribed.close(ServeError::NotFound);
                    }
                }
            }
            Tracks::Elsewhere(subscriber) => {
                let (writer, reader) = new_track(&path, &name);
                match Subscriber::clone(subscriber).subscribe_open(writer).await {
                    Ok(_upstream) => {
                        let _ = subscribed.serve(reader).await;
                    }
                    Err(err) => {
                        let _ = subscribed.close(err);
                    }
                }
            }
        }
    }
}

pub(super) fn new_track(path: &str, name: &str) -> (TrackWriter, TrackReader) {
    Track::new(TrackNamespace::from_utf8_path(path), name).produce()
}

pub(super) fn path_of(namespace: &TrackNamespace) -> String {
    namespace.to_utf8_path().trim_start_matches('/').to_owned()
}
