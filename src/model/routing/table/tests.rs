use super::*;
use crate::model::base::{Horizon, SessionId};
use crate::model::routing::scope::Scope;
use crate::{Cost, Hop};

/// Everything that a reader returns, as text.
fn read(reader: &mut TableReader, table: &mut RoutingTable<u32>) -> Vec<String> {
    let mut out = Vec::new();
    loop {
        match reader.next(table, Instant::ZERO, AnnounceQuota::ENDLESS) {
            Some((path, RouteChange::Announced(entry))) => {
                out.push(format!("+{path} {}", entry.broadcast))
            }
            Some((path, RouteChange::Gone)) => out.push(format!("-{path}")),
            Some((path, RouteChange::Rerouted(entry))) => {
                out.push(format!("~{path} {}", entry.broadcast))
            }
            None if reader.is_paused() => {}
            None => return out,
        }
    }
}

fn everything() -> TableReader {
    TableReader::new(Scope::default(), Horizon::default(), AnnounceFilter::default())
}

fn through(hop: u64, session: u64) -> Route {
    let hops = [Hop::new(hop)].into_iter().collect();
    Route { hops, session: Some(SessionId(session)), ..Route::default() }
}

#[test]
fn paths_that_come_and_go_cost_a_slow_reader_nothing() {
    let mut table = RoutingTable::default();
    let mut slow = everything();
    let kept = table.insert(&Path::new("kept"), Route::default(), 0);
    assert_eq!(read(&mut slow, &mut table), ["+kept 0"]);
    for n in 0..10_000 {
        let path = Path::new(&format!("room/{n}"));
        let id = table.insert(&path, Route::default(), n);
        assert!(table.remove(&path, id).is_some());
    }
    assert_eq!(table.sizes(), (1, 1, 0));
    assert_eq!(read(&mut slow, &mut table), [""; 0]);
    assert!(table.remove(&Path::new("kept"), kept).is_some());
    assert_eq!(table.sizes(), (1, 1, 1), "the slow one believes in it");
    assert_eq!(read(&mut slow, &mut table), ["-kept"]);
    assert_eq!(table.sizes(), (0, 1, 0));
}

#[test]
fn one_path_replaced_many_times_is_one_change() {
    let mut table = RoutingTable::default();
    let mut reader = everything();
    let path = Path::new("a");
    let mut id = table.insert(&path, Route::default(), 0);
    assert_eq!(read(&mut reader, &mut table), ["+a 0"]);
    for n in 1..=10_000 {
        assert!(table.remove(&path, id).is_some());
        id = table.insert(&path, Route::default(), n);
    }
    assert_eq!(table.sizes(), (1, 1, 1));
    assert_eq!(read(&mut reader, &mut table), ["-a", "+a 10000"]);
    assert_eq!(read(&mut everything(), &mut table), ["+a 10000"]);
}

#[test]
fn a_forked_reader_continues_and_a_detached_one_leaves_nothing() {
    let mut table = RoutingTable::default();
    let mut first = everything();
    let path = Path::new("a");
    let id = table.insert(&path, Route::default(), 1);
    assert_eq!(read(&mut first, &mut table), ["+a 1"]);
    let mut second = first.fork(&mut table);
    table.remove(&path, id);
    assert_eq!(read(&mut first, &mut table), ["-a"]);
    assert_eq!(table.entries.len(), 1);
    drop(second.detach(&mut table));
    drop(first.detach(&mut table));
    assert_eq!(table.sizes(), (0, 0, 0));
}

#[test]
fn the_next_best_route_takes_over() {
    let mut table = RoutingTable::default();
    let mut reader = everything();
    let path = Path::new("a");
    let far = table.insert(&path, through(7, 1), 1);
    assert_eq!(read(&mut reader, &mut table), ["+a 1"]);
    let local = table.insert(&path, Route::default(), 2);
    assert_eq!(read(&mut reader, &mut table), ["-a", "+a 2"]);
    let newer = table.insert(&path, through(8, 2), 3);
    assert_eq!(read(&mut reader, &mut table), [""; 0], "the best stays the best");
    table.remove(&path, local);
    assert_eq!(read(&mut reader, &mut table), ["-a", "+a 3"], "the newest among equals");
    table.remove(&path, newer);
    table.remove(&path, far);
    assert_eq!(read(&mut reader, &mut table), ["-a"]);
}

#[test]
fn a_route_is_announced_again_only_if_it_changed() {
    let mut table = RoutingTable::default();
    let mut reader = everything();
    let path = Path::new("a");
    let id = table.insert(&path, through(7, 1), 1);
    assert_eq!(read(&mut reader, &mut table), ["+a 1"]);
    table.reroute(&path, id, through(8, 1));
    table.reroute(&path, id, through(7, 1));
    assert_eq!(read(&mut reader, &mut table), [""; 0]);
    table.reroute(&path, id, through(8, 1));
    assert_eq!(read(&mut reader, &mut table), ["~a 1"]);
    let standby = table.insert(&path, through(9, 2), 2);
    assert_eq!(read(&mut reader, &mut table), ["-a", "+a 2"]);
    let dear = Route { cost: Cost { warm: 9, cold: 9 }, ..through(9, 2) };
    table.reroute(&path, standby, dear.clone());
    assert_eq!(read(&mut reader, &mut table), ["~a 2"], "it is the newer broadcast still");
    table.reroute(&path, standby, Route { cost: Cost::DRAINED, ..dear });
    assert_eq!(read(&mut reader, &mut table), ["-a", "+a 1"], "it is about to end");
    table.remove(&path, id);
    table.reroute(&path, id, through(1, 1));
    assert_eq!(table.routes(&path).len(), 1, "what is gone can't be rerouted");
}

fn below(prefixes: &[&str]) -> TableReader {
    let prefixes: Vec<_> = prefixes.iter().copied().map(Path::from).collect();
    let scope = Scope::default().narrowed(&prefixes).unwrap();
    TableReader::new(scope, Horizon::default(), AnnounceFilter::default())
}

fn fill(table: &mut RoutingTable<u32>, paths: &[&str]) {
    for path in paths {
        table.insert(&Path::new(path), Route::default(), 0);
    }
}

/// As text, `a-b` stands between `a` and `a/b`.
#[test]
fn a_walk_finds_what_is_below_its_prefixes_and_nothing_else() {
    let mut table = RoutingTable::default();
    fill(&mut table, &["", "a", "a!", "a-b", "a-b/c", "a/b", "a/b/c", "a0", "ab", "b/c", "c"]);
    let read = |prefixes: &[&str], table: &mut RoutingTable<u32>| {
        let mut reader = below(prefixes);
        let found = read(&mut reader, table);
        drop(reader.detach(table));
        found
    };
    assert_eq!(read(&["a"], &mut table), ["+a 0", "+a/b 0", "+a/b/c 0"]);
    assert_eq!(read(&["a/b", "a-b"], &mut table), ["+a/b 0", "+a/b/c 0", "+a-b 0", "+a-b/c 0"]);
    assert_eq!(read(&["b", "c", "d"], &mut table), ["+b/c 0", "+c 0"]);
    assert_eq!(read(&["a/b/c/d"], &mut table), [""; 0]);
    assert_eq!(read(&[""], &mut table).len(), 11);
    assert_eq!(table.sizes(), (11, 0, 0));
}

#[test]
fn changes_are_found_below_each_prefix_in_their_order() {
    let mut table = RoutingTable::default();
    let mut reader = below(&["a", "c/d"]);
    let mut wide = everything();
    assert_eq!(read(&mut reader, &mut table), [""; 0]);
    assert_eq!(read(&mut wide, &mut table), [""; 0]);
    fill(&mut table, &["c/d", "b", "c", "a/x", "a-b", "c/d/e"]);
    assert_eq!(table.sizes(), (6, 3, 9));
    assert_eq!(read(&mut reader, &mut table), ["+c/d 0", "+a/x 0", "+c/d/e 0"]);
    assert_eq!(read(&mut wide, &mut table).len(), 6);
    drop((reader.detach(&mut table), wide.detach(&mut table)));
    assert_eq!(table.sizes(), (6, 0, 0));
}

/// A route that came after the walk began is announced once, and so is one that the walk passed.
#[test]
fn a_walk_and_concurrent_changes_are_consistent() {
    let mut table = RoutingTable::default();
    fill(&mut table, &["b", "d", "f"]);
    let mut reader = everything();
    let mut next = |table: &mut RoutingTable<u32>| match reader.next(
        table,
        Instant::ZERO,
        AnnounceQuota::ENDLESS,
    ) {
        Some((path, RouteChange::Announced(_))) => format!("+{path}"),
        Some((path, RouteChange::Gone)) => format!("-{path}"),
        Some((path, RouteChange::Rerouted(_))) => format!("~{path}"),
        None => String::new(),
    };
    assert_eq!(next(&mut table), "+b");
    fill(&mut table, &["a", "e"]);
    let id = |table: &RoutingTable<u32>, path: &str| table.routes(&Path::new(path))[0].id;
    for path in ["b", "d"] {
        let id = id(&table, path);
        assert!(table.remove(&Path::new(path), id).is_some());
    }
    let f = id(&table, "f");
    table.reroute(&Path::new("f"), f, through(7, 1));
    assert_eq!(next(&mut table), "+f");
    assert_eq!(next(&mut table), "", "what there was is told");
    let rest: Vec<_> = std::iter::repeat_with(|| next(&mut table)).take(4).collect();
    assert_eq!(rest, ["+a", "+e", "-b", ""]);
}

/// The steps of a reader with `n` paths elsewhere: to count, to read, and to find a change.
fn work_beside(n: u32) -> [usize; 3] {
    let mut table = RoutingTable::default();
    for at in 0..n {
        table.insert(&Path::new(&format!("room/{at}")), Route::default(), at);
    }
    fill(&mut table, &["x/one", "x/two"]);
    let mut elsewhere: Vec<_> = (0..n).map(|at| below(&[&format!("room/{at}")])).collect();
    for reader in &mut elsewhere {
        assert_eq!(read(reader, &mut table).len(), 1);
    }
    let work = |table: &mut RoutingTable<u32>, step: &mut dyn FnMut(&mut RoutingTable<u32>)| {
        let before = table.steps;
        step(table);
        table.steps - before
    };
    let mut reader = below(&["x"]);
    let counted = work(&mut table, &mut |table| {
        assert_eq!(reader.count(table, Instant::ZERO, usize::MAX), Some(2));
    });
    let first = work(&mut table, &mut |table| assert_eq!(read(&mut reader, table).len(), 2));
    let changed = work(&mut table, &mut |table| {
        for at in 0..n {
            let path = Path::new(&format!("room/{at}"));
            let id = table.routes(&path)[0].id;
            table.reroute(&path, id, through(7, 1));
        }
        fill(table, &["x/three"]);
        assert_eq!(read(&mut reader, table), ["+x/three 0"]);
    });
    [counted, first, changed]
}

#[test]
fn a_reader_does_not_visit_paths_of_other_prefixes() {
    let work = work_beside(1_000);
    assert!(work.iter().all(|steps| *steps < 10), "{work:?}");
    assert_eq!(work_beside(10_000), work);
}

/// However large the table is, other threads get the lock after a few paths, and what was not read
/// is not remembered.
#[test]
fn a_large_table_is_counted_and_read_in_pieces() {
    for n in [1_000_u32, 10_000] {
        let mut table = RoutingTable::default();
        for at in 0..n {
            table.insert(&Path::new(&format!("room/{at}")), through(7, 1), at);
        }
        let mut reader = everything();
        let mut pieces = 0;
        let counted = loop {
            let before = table.steps;
            let counted = reader.count(&mut table, Instant::ZERO, usize::MAX);
            assert!(table.steps - before <= STEP);
            match counted {
                Some(counted) => break counted,
                None => pieces += 1,
            }
        };
        assert_eq!((counted, pieces), (u64::from(n), n as usize / STEP));
        assert_eq!((reader.announced(), table.steps), (0, n as usize));
        // This reader may be given none of it.
        let horizon = Horizon { session: Some(SessionId(1)), ..Horizon::default() };
        let mut other = TableReader::new(Scope::default(), horizon, AnnounceFilter::default());
        let before = table.steps;
        assert!(other.next(&mut table, Instant::ZERO, AnnounceQuota::ENDLESS).is_none());
        assert!(other.is_paused() && table.steps - before <= STEP);
    }
}

#[test]
fn without_quota_only_ends_are_announced() {
    let mut table = RoutingTable::default();
    let paths: Vec<_> = (0..16).map(|at| format!("{at:02}")).collect();
    let ids: Vec<_> =
        paths.iter().map(|path| table.insert(&Path::new(path), Route::default(), 0)).collect();
    let mut reader = everything();
    let read = |reader: &mut TableReader, table: &mut RoutingTable<u32>| {
        let mut out = Vec::new();
        loop {
            let quota = AnnounceQuota { left: 8 - reader.announced(), all: 8 };
            match reader.next(table, Instant::ZERO, quota) {
                Some((path, RouteChange::Announced(_))) => out.push(format!("+{path}")),
                Some((path, _)) => out.push(format!("-{path}")),
                None if reader.is_paused() => {}
                None => return out,
            }
        }
    };
    let announced = read(&mut reader, &mut table);
    assert!(announced.iter().map(|it| &it[1..]).eq(&paths[..8]), "{announced:?}");
    assert!(reader.is_over_quota());
    assert_eq!(read(&mut reader, &mut table), [""; 0]);
    for at in [3, 5, 9] {
        assert!(table.remove(&Path::new(&paths[at]), ids[at]).is_some());
    }
    let announced = read(&mut reader, &mut table);
    assert_eq!(announced, ["-03", "+08", "-05", "+10"]);
    for at in 8..16 {
        table.remove(&Path::new(&paths[at]), ids[at]);
    }
    assert_eq!(read(&mut reader, &mut table), ["-08", "-10"]);
    assert!(!reader.is_over_quota());
}

#[test]
fn a_reader_with_a_horizon_sees_the_next_best_route() {
    let mut table = RoutingTable::default();
    let path = Path::new("a");
    let best = table.insert(&path, through(7, 1), 1);
    let worse = Route { cost: Cost { warm: 5, cold: 5 }, ..through(8, 2) };
    table.insert(&path, worse, 2);
    let horizon = Horizon { exclude: Hop::new(7), ..Horizon::default() };
    let mut reader = TableReader::new(Scope::default(), horizon, AnnounceFilter::default());
    assert_eq!(read(&mut reader, &mut table), ["+a 2"]);
    table.remove(&path, best);
    assert_eq!(read(&mut reader, &mut table), [""; 0]);
    let horizon = Horizon { session: Some(SessionId(2)), ..Horizon::default() };
    assert_eq!(
        read(
            &mut TableReader::new(Scope::default(), horizon, AnnounceFilter::default()),
            &mut table
        ),
        [""; 0]
    );
}
