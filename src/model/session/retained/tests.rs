use super::*;
use crate::Hop;
use crate::model::base::{Route, SessionId};
use crate::model::routing::Origin;

/// Another session announces the broadcast after it was looked for, and before it is kept.
#[test]
fn a_broadcast_that_is_announced_meanwhile_is_not_kept() {
    let origin = Origin::new(Hop::new(1)).produce();
    let (retained, path) = (Retained::new(), Path::new("live"));
    let announce = |session| {
        let hops = [Hop::new(7)].into_iter().collect();
        let route = Route { hops, session: Some(SessionId(session)), ..Route::default() };
        origin.announce_remote(path.clone(), route).unwrap()
    };
    let (ending, mut other) = (announce(2), None);
    retained.keep(&path, || {
        let kept = origin.retain(&path, &ending);
        other.get_or_insert_with(|| {
            let upstream = announce(3);
            retained.announced(&path);
            upstream
        });
        kept
    });
    assert!(retained.is_empty());
    let mut live = origin.consume().broadcast("live").unwrap();
    ending.leave(Err(Error::SessionClosed));
    assert!(live.try_closed().is_pending(), "the other session goes on");
    other.unwrap().leave(Ok(()));
    assert!(live.try_closed().is_ready(), "nothing is left in its place");
}
