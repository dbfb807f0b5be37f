//! Each waiter is woken once by the event that it waits for, and no other waiter is woken. There is a row
//! for each wait of the model and each event that ends it. Waiters never poll on their own, so a lost
//! wake-up is detected.
//!
//! | module | waits of |
//! |---|---|
//! | `groups` | `GroupConsumer`, `GroupProducer`, `FrameConsumer` |
//! | `tracks` | `TrackConsumer`, `TrackProducer`, and requests for groups |
//! | `broadcasts` | `BroadcastConsumer`, `BroadcastProducer`, and requests for tracks |
//! | `origins` | `OriginConsumer`, and requests for broadcasts |
//! | `sessions` | `Session`, `IncomingSession`, `Probe`, `TracksRequest`, `ReadyList` |
//! | `drivers` | `Driver` |

#[path = "wakers/broadcasts.rs"]
mod broadcasts;
#[path = "wakers/drivers.rs"]
mod drivers;
#[path = "wakers/groups.rs"]
mod groups;
#[path = "wakers/origins.rs"]
mod origins;
#[path = "wakers/sessions.rs"]
mod sessions;
#[path = "wakers/tracks.rs"]
mod tracks;

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::task::Context;
use std::time::Duration;

use smoq::sim::{Link, Pair, Wakes};
use smoq::{
    Client, Driver, Hop, Instant, Limits, Origin, OriginProducer, Server, Session, Subscription,
    Track, TrackProducer, Version,
};

/// Polls once, and returns whether the result was ready.
type Polled = Box<dyn FnMut(&mut Context<'_>) -> bool>;

/// Values that must live until the waiters were checked.
type Kept = Box<dyn Any>;

fn keep(kept: impl Any) -> Kept {
    Box::new(kept)
}

struct Waiting {
    what: &'static str,
    poll: Polled,
    wakes: Wakes,
}

impl Waiting {
    fn poll(&mut self) -> bool {
        (self.poll)(&mut self.wakes.context())
    }
}

/// Waiters that must be woken, and others that must not.
#[derive(Default)]
struct Case {
    waiting: Vec<Waiting>,
    others: Vec<Waiting>,
}

impl Case {
    fn begin(what: &'static str, poll: impl FnMut(&mut Context<'_>) -> bool + 'static) -> Waiting {
        let mut waiting = Waiting { what, poll: Box::new(poll), wakes: Wakes::new() };
        assert!(!waiting.poll(), "{what} does not wait");
        waiting
    }

    /// Adds a waiter that must be woken.
    fn waits(&mut self, poll: impl FnMut(&mut Context<'_>) -> bool + 'static) {
        self.waiting.push(Self::begin("the waiter", poll));
    }

    /// Adds a waiter that must not be woken.
    fn other(&mut self, what: &'static str, poll: impl FnMut(&mut Context<'_>) -> bool + 'static) {
        self.others.push(Self::begin(what, poll));
    }

    /// Runs `cause`, which returns what must live until the end, and checks all waiters.
    fn check(mut self, cause: impl FnOnce() -> Kept) {
        let _kept = cause();
        for waiting in &mut self.waiting {
            assert_eq!(waiting.wakes.count(), 1, "number of wake-ups");
            assert!(waiting.poll(), "a wake-up without a result");
        }
        for other in &mut self.others {
            assert_eq!(other.wakes.count(), 0, "{} was woken", other.what);
            assert!(!other.poll(), "{} became ready", other.what);
        }
    }
}

/// The waits that have a row, and the rows that failed.
#[derive(Default)]
struct Table {
    waits: BTreeSet<&'static str>,
    wrong: Vec<String>,
}

impl Table {
    /// `make` creates the waiters and returns the cause, which returns what must live until the end.
    fn row<C, K>(&mut self, wait: &'static str, cause: &str, make: impl FnOnce(&mut Case) -> C)
    where
        C: FnOnce() -> K,
        K: 'static,
    {
        self.waits.insert(wait);
        let row = AssertUnwindSafe(|| {
            let mut case = Case::default();
            let cause = make(&mut case);
            case.check(|| Box::new(cause()));
        });
        if let Err(panic) = catch_unwind(row) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            self.wrong.push(format!("{wait}, {cause}: {text}"));
        }
    }
}

// ---- what the rows share -----------------------------------------------------------------------

fn track() -> TrackProducer {
    Track::new("video").produce()
}

fn everything() -> Subscription {
    Subscription::default().max_age(Duration::MAX).start(0)
}

fn origin() -> OriginProducer {
    Origin::default().produce()
}

/// An origin whose requests time out after a second.
fn impatient_origin() -> OriginProducer {
    let mut limits = Limits::default();
    limits.answer_timeout = Duration::from_secs(1);
    Origin::default().limits(limits).produce()
}

/// The time after all answers are overdue.
const LATE: Instant = Instant::from_millis(9_000);

/// A session, with an origin at each end that is both published and consumed into.
struct Joined {
    pair: Pair<Driver, Driver>,
    sessions: [Session; 2],
    origins: [OriginProducer; 2],
}

fn two_origins() -> [OriginProducer; 2] {
    [7, 8].map(|hop| Origin::new(Hop::new(hop)).produce())
}

fn joined(version: Version) -> Joined {
    joined_at(version, two_origins())
}

fn joined_at(version: Version, origins: [OriginProducer; 2]) -> Joined {
    let (one, client) = Client::new().with_origin(&origins[0]).connect(version, Instant::ZERO);
    let (two, server) = Server::new().with_origin(&origins[1]).accept(version, Instant::ZERO);
    let mut pair = Pair::new(client, server, Link::perfect());
    pair.run_until_idle();
    Joined { pair, sessions: [one, two], origins }
}

// ---- the table ---------------------------------------------------------------------------------

/// All waits that exist: each `poll_x` of a `wait!`, and each public function that takes a context.
fn known() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let mut of = String::new();
            for line in text.lines() {
                if let Some(name) = line.strip_prefix("impl ") {
                    let name = name.trim_end_matches(" {");
                    of = name.rsplit(" for ").next().unwrap().to_owned();
                }
                let waits = line.trim().split_once(" => poll_").map(|(_, rest)| rest);
                let public = line.trim().strip_prefix("pub fn poll_");
                let public = public.filter(|rest| rest.contains("cx: &mut Context"));
                // The definition of `wait!` itself has no name.
                if let Some(rest) = waits.or(public).filter(|_| !line.contains('$')) {
                    let name = rest.split([',', '(']).next().unwrap();
                    known.insert(format!("{of}::poll_{name}"));
                }
            }
        }
    }
    known
}

#[test]
fn each_waiter_is_woken_once_and_no_other() {
    let mut table = Table::default();
    groups::rows(&mut table);
    tracks::rows(&mut table);
    broadcasts::rows(&mut table);
    origins::rows(&mut table);
    sessions::rows(&mut table);
    drivers::rows(&mut table);
    assert!(table.wrong.is_empty(), "{:#?}", table.wrong);
    let known = known();
    assert!(known.len() > 30, "{known:?}");
    let rows: BTreeSet<_> = table.waits.iter().map(|wait| (*wait).to_owned()).collect();
    assert_eq!(known.difference(&rows).collect::<Vec<_>>(), [""; 0], "waits without a row");
    assert_eq!(rows.difference(&known).collect::<Vec<_>>(), [""; 0], "rows without a wait");
}
