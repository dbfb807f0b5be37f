//! Lines, JSON, and the table for the README.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::case::{Figure, Row};
use crate::machine::Machine;

/// A file of results: one group of cases, on one machine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
}

impl Results {
    /// All files of a directory, in the order of their names.
    pub(crate) fn read_all(dir: &Path) -> Result<Vec<Self>> {
        let entries = fs::read_dir(dir).with_context(|| format!("can't read {}", dir.display()))?;
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| file.extension().is_some_and(|ext| ext == "json"));
        files.sort();
        let read = |file: &std::path::PathBuf| {
            let results = serde_json::from_slice(&fs::read(file)?);
            results.with_context(|| format!("can't read {}", file.display()))
        };
        files.iter().map(read).collect()
    }

    /// Writes `GROUP.json`, where the group is the first part of the names. Rows of an earlier run that this
    /// one did not measure stay, if the machine is the same.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let Some(first) = self.rows.first() else { return Ok(()) };
        let group = first.name.split('/').next().unwrap_or(&first.name);
        let file = dir.join(format!("{group}.json"));
        let mut results = Self { machine: self.machine.clone(), rows: self.rows.clone() };
        let earlier = fs::read(&file).ok();
        if let Some(earlier) = earlier.and_then(|text| serde_json::from_slice::<Self>(&text).ok()) {
            let (was, is) = (&earlier.machine, &self.machine);
            if (&was.cpu, was.cores, &was.profile) == (&is.cpu, is.cores, &is.profile) {
                let is_new = |row: &Row| self.rows.iter().all(|new| new.name != row.name);
                results.rows.extend(earlier.rows.into_iter().filter(is_new));
            }
        }
        fs::create_dir_all(dir)?;
        let text = serde_json::to_string_pretty(&results)? + "\n";
        fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))
    }
}

/// Three significant digits.
pub(crate) fn short(figure: f64) -> String {
    let digits = match figure.abs() {
        0.0 => 0,
        size => (2 - size.log10().floor() as i32).clamp(0, 6) as usize,
    };
    format!("{figure:.digits$}")
}

/// One line a row.
pub(crate) fn line(row: &Row) -> String {
    let range = |figure: &Figure| format!("{}..{}", short(figure.min), short(figure.max));
    let median = |figure: &Figure| short(figure.median);
    let peer = row.peer.as_ref();
    format!(
        "{} ours={} peer={} ratio={} unit={} better={} ours_range={} peer_range={}",
        row.name,
        median(&row.ours),
        peer.map_or("-".into(), median),
        row.ratio().map_or("-".into(), short),
        row.unit,
        row.better.as_str(),
        range(&row.ours),
        peer.map_or("-".into(), range),
    )
}

/// The rows of the README's table and of the plot, by the beginning of their names. All others are in `table.md`.
const CHOSEN: [&str; 30] = [
    "model/polled/1/",
    "model/polled/100/",
    "model/tasks/100/",
    "model/two-cores/speed-up/",
    "model/two-cores/time/",
    "model/two-cores-apart/speed-up/",
    "heap/task/",
    "heap/group/",
    "sessions/10/",
    "sessions/two-cores/speed-up/",
    "relay/paced-50/10/cpu/",
    "relay/paced-50/10/p50/",
    "relay/paced-50/10/p99/",
    "relay/unlimited/10/cpu/",
    "relay/unlimited/10/p99/",
    "idle/200/memory/",
    "stress/viewers/a-core/",
    "stress/busy-3/50/goodput/",
    "congested/router/33ms/p50/",
    "congested/router/33ms/p99/",
    "congested/router/33ms/whole-groups/",
    "congested/router/33ms/urgent/p50/",
    "congested/router/33ms/urgent/p99/",
    "congested/sender/33ms/p50/",
    "congested/sender/33ms/p99/",
    "congested/loss/1s/p99/",
    "far/loss-1/p50/",
    "far/loss-1/p99/",
    "far/loss-1/goodput/",
    "quic/smoq-quinn/1200/",
];

/// The rows that the README shows.
pub(crate) fn chosen(files: &[Results]) -> Vec<&Row> {
    let rows = || files.iter().flat_map(|file| &file.rows);
    CHOSEN.iter().flat_map(|start| rows().filter(move |row| row.name.starts_with(start))).collect()
}

/// Rows as a table in Markdown.
pub(crate) fn table<'a>(rows: impl IntoIterator<Item = &'a Row>, files: &[Results]) -> String {
    let mut table = String::new();
    table.push_str("| row | smoq | peer | ratio | better | unit |\n|---|---|---|---|---|---|\n");
    for row in rows {
        let cell = |figure: &Figure| {
            format!("{} ({} to {})", short(figure.median), short(figure.min), short(figure.max))
        };
        let ratio = row.ratio().map_or("-".into(), |ratio| format!("**{}**", short(ratio)));
        let peer = row.peer.as_ref().map_or("-".into(), cell);
        let (name, ours, better) = (&row.name, cell(&row.ours), row.better.as_str());
        let _ =
            writeln!(table, "| `{name}` | {ours} | {peer} | {ratio} | {better} | {} |", row.unit);
    }
    if let Some(Results { machine, .. }) = files.first() {
        let Machine { date, cpu, cores, memory_gib, kernel, .. } = machine;
        let _ =
            writeln!(table, "\n{cpu}, {cores} cores, {memory_gib} GiB, Linux {kernel}, {date}.");
    }
    table
}

/// The text of a file with everything between the two comments `<!-- peers -->` and `<!-- /peers -->`
/// replaced.
pub(crate) fn insert(text: &str, table: &str) -> Option<String> {
    let (open, close) = ("<!-- peers -->\n", "<!-- /peers -->");
    let (before, rest) = text.split_once(open)?;
    let (_, after) = rest.split_once(close)?;
    Some(format!("{before}{open}{table}{close}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Better;

    fn row(ours: f64, peer: Option<f64>) -> Row {
        let figure = |median| Figure { median, min: median, max: median, rounds: vec![median] };
        Row {
            name: "model/work".into(),
            unit: "ns".into(),
            better: Better::Lower,
            ours: figure(ours),
            peer: peer.map(figure),
        }
    }

    #[test]
    fn a_row_is_one_line() {
        assert_eq!(
            line(&row(14.04, Some(140.4))),
            "model/work ours=14.0 peer=140 ratio=0.100 unit=ns better=lower ours_range=14.0..14.0 \
             peer_range=140..140"
        );
        assert!(line(&row(0.0, None)).starts_with("model/work ours=0 peer=- ratio=- unit=ns"));
    }

    #[test]
    fn the_table_replaces_what_stands_between_the_comments() {
        let text = "a\n<!-- peers -->\nold\n<!-- /peers -->\nb\n";
        assert_eq!(
            insert(text, "new\n").as_deref(),
            Some("a\n<!-- peers -->\nnew\n<!-- /peers -->\nb\n")
        );
        assert_eq!(insert("a", "new"), None);
    }
}
