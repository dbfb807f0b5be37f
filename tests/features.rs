//! Checks docs/features.md: each test that it names exists, each limit has a row, and each fault that it
//! names is in docs/mutations.txt and can be applied exactly once. Checks docs/requirements.md: each id is
//! there once, with a test that exists, a place in the code, or a reason, and the reasons are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The cells of all rows with this many columns, without the heads of tables.
fn rows(text: &str, columns: usize) -> Vec<Vec<&str>> {
    let mut rows = Vec::new();
    for line in text.lines() {
        let Some(row) = line.strip_prefix("| ").and_then(|row| row.strip_suffix('|')) else {
            continue;
        };
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let is_head = ["feature", "limit", "ids", "reason"].contains(&cells[0]);
        if cells.len() == columns && !is_head {
            rows.push(cells);
        }
    }
    rows
}

/// `path` or `path::test`.
fn assert_test(named: &str) {
    let Some((path, name)) = named.split_once(".rs::") else {
        read(named);
        return;
    };
    let text = read(&format!("{path}.rs"));
    let at = text.find(&format!("fn {name}(")).unwrap_or_else(|| panic!("{named} does not exist"));
    let attributes = text[..at].rsplit("\n\n").next().unwrap_or_default();
    assert!(attributes.contains("test]") || attributes.contains("test("), "{named} is not a test");
}

/// All words in the source code, among them all public names.
fn names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut dirs = [
        "src",
        "adapters/quinn/src",
        "adapters/blocking/src",
        "adapters/quic/src",
        "adapters/http3/src",
        "adapters/web-transport/src",
        "adapters/qmux/src",
    ]
    .map(String::from)
    .to_vec();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{dir}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                dirs.push(path);
            } else {
                let text = read(&path);
                let words = text.split(|it: char| !it.is_alphanumeric() && it != '_');
                names.extend(words.map(str::to_owned));
            }
        }
    }
    names
}

/// A small fault from docs/mutations.txt.
#[derive(Default)]
struct Fault {
    file: String,
    test: String,
    from: Vec<String>,
    to: Vec<String>,
}

fn faults() -> BTreeMap<String, Fault> {
    let text = read("docs/mutations.txt");
    let mut faults = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if !line.starts_with(' ') {
            last = line.to_owned();
            assert!(faults.insert(last.clone(), Fault::default()).is_none(), "{line} twice");
            continue;
        }
        let fault = faults.get_mut(&last).expect("a name before the first line");
        match line.split_at(5.min(line.len())) {
            ("  in ", file) => fault.file = file.to_owned(),
            ("  by ", test) => fault.test = test.to_owned(),
            _ => match line.split_at(4) {
                ("  - ", text) => fault.from.push(text.to_owned()),
                ("  + ", text) => fault.to.push(text.to_owned()),
                _ => panic!("{line}"),
            },
        }
    }
    faults
}

#[test]
fn each_feature_names_tests_and_a_fault() {
    let text = read("docs/features.md");
    let (faults, names) = (faults(), names());
    let mut named = BTreeSet::new();
    let rows = rows(&text, 4);
    assert!(rows.len() > 60, "{} rows", rows.len());
    for row in rows {
        let [feature, public, tests, breaks] = row[..] else { unreachable!() };
        assert!(quoted(public).next().is_some(), "{feature}: no public name");
        for name in quoted(public).flat_map(|name| name.split("::")) {
            assert!(names.contains(name), "{feature}: {name} does not exist");
        }
        let tests: Vec<_> = quoted(tests).collect();
        assert!(!tests.is_empty(), "{feature}: no test");
        tests.iter().for_each(|test| assert_test(test));
        for fault in quoted(breaks) {
            let known =
                faults.get(fault).unwrap_or_else(|| panic!("{fault} is not in docs/mutations.txt"));
            assert!(tests.contains(&&*known.test), "the test of {fault} is not among these");
            named.insert(fault);
        }
    }
    let unnamed: Vec<_> = faults.keys().filter(|fault| !named.contains(&***fault)).collect();
    assert!(unnamed.is_empty(), "no feature names the faults {unnamed:?}");
}

#[test]
fn each_limit_names_a_test() {
    let limits = read("src/limits.rs");
    let fields = limits.lines().filter_map(|line| line.trim().strip_prefix("pub "));
    let fields = fields.filter_map(|field| Some(field.split_once(": ")?.0));
    let fields: BTreeSet<_> = fields.collect();
    assert!(fields.len() > 20, "{fields:?}");
    let text = read("docs/features.md");
    let mut named = BTreeSet::new();
    for row in rows(&text, 3) {
        let [limit, _, tests] = row[..] else { unreachable!() };
        named.extend(quoted(limit));
        assert!(quoted(tests).next().is_some(), "{limit} has no test");
        quoted(tests).for_each(assert_test);
    }
    assert_eq!(named, fields);
}

/// The ids in a cell, as draft and number. docs/requirements.md explains the short forms.
fn requirement_ids(cell: &str) -> Vec<(&str, u16)> {
    let number = |digits: &str| -> u16 {
        assert_eq!(digits.len(), 3, "{cell}: {digits}");
        digits.parse().unwrap_or_else(|_| panic!("{cell}: {digits}"))
    };
    let (mut draft, mut ids) = ("", Vec::new());
    for item in cell.split(", ") {
        let (id, last) =
            item.split_once('\u{2013}').map_or((item, None), |(id, last)| (id, Some(last)));
        let (rule, first) = id.rsplit_once('-').unwrap_or_else(|| panic!("{cell}: {item}"));
        if !rule.is_empty() {
            let section = rule.strip_suffix("-MUST-NOT").or_else(|| rule.strip_suffix("-MUST"));
            let section = section.unwrap_or_else(|| panic!("{cell}: {item}"));
            if let Some((name, numbers)) = section.split_once('-') {
                assert!(["L06", "D22"].contains(&name), "{cell}: {item}");
                let is_number = |part: &str| part.parse::<u8>().is_ok();
                assert!(numbers.split('-').all(is_number), "{cell}: {item}");
                draft = name;
            }
        }
        let (first, last) = (number(first), number(last.unwrap_or(first)));
        assert!(!draft.is_empty() && first <= last, "{cell}: {item}");
        ids.extend((first..=last).map(|number| (draft, number)));
    }
    ids
}

#[test]
fn each_requirement_has_a_test_or_a_reason() {
    let text = read("docs/requirements.md");
    let (reasons, rules): (Vec<_>, Vec<_>) =
        rows(&text, 3).into_iter().partition(|row| row[1].parse::<usize>().is_ok());
    let (mut known, mut missing) = (BTreeSet::new(), BTreeMap::new());
    for row in rules {
        let [cell, _, shown] = row[..] else { unreachable!() };
        let ids = requirement_ids(cell);
        ids.iter().for_each(|id| assert!(known.insert(*id), "{id:?} is there twice"));
        match shown.strip_prefix("not done (").and_then(|shown| shown.split_once("): ")) {
            Some((reason, _)) => *missing.entry(reason).or_insert(0) += ids.len(),
            None => assert!(quoted(shown).next().is_some(), "{cell}: neither test nor reason"),
        }
        quoted(shown).for_each(assert_test);
    }
    let counts = reasons.iter().map(|row| (row[0], row[1].parse().unwrap()));
    assert_eq!(counts.collect::<BTreeMap<_, usize>>(), missing);
    let sum = format!("Of {} rules {} are", known.len(), missing.values().sum::<usize>());
    assert!(text.contains(&sum), "the page does not say: {sum}");
}

#[test]
fn each_fault_can_be_applied_once() {
    for (name, Fault { file, test, from, to }) in faults() {
        assert!(!from.is_empty() && from != to, "{name} changes nothing");
        let count = read(&file).matches(&from.join("\n")).count();
        assert_eq!(count, 1, "{name}: occurrences of its text in {file}");
        assert!(test.contains(".rs::"), "{name}: no test");
        assert_test(&test);
    }
}
