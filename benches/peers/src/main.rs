//! smoq beside its peers on the same work, in one run:
//!
//! ```text
//! cargo run --release -p smoq-bench-peers [-- --only PATTERN] [--rounds N] [--quick]
//! ```
//!
//! Each case runs smoq and its peers in turns, for some rounds. Each row prints a line: the medians, their ratio and
//! the range of the rounds. The same goes to `benches/results`, as JSON, as a Markdown table and as a plot.

mod case;
mod load;
mod machine;
mod network;
mod plot;
mod process;
mod relays;
mod report;
mod rows;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

use crate::case::Case;
use crate::machine::Machine;
use crate::relays::Relays;
use crate::report::Results;

/// smoq beside its peers on the same work
#[derive(Parser)]
#[command(name = "smoq-bench-peers")]
struct Options {
    /// Tiny sizes and one round: shows that everything runs, measures nothing
    #[arg(long)]
    quick: bool,
    /// How often each side does the work
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Only the cases whose name contains this; may be repeated
    #[arg(long, value_name = "PATTERN")]
    only: Vec<String>,
    /// The directory of the results [default: benches/results, with --quick one beside the program]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Lists the names of the cases
    #[arg(long)]
    list: bool,
    /// Makes table and plot of the results that are there, and measures nothing
    #[arg(long)]
    table: bool,
    /// Writes the chosen rows and the plot into README.md, between `<!-- peers -->` and `<!-- /peers -->`
    #[arg(long)]
    readme: bool,
    /// The moq-relay to compare with [default: the one that `build-relay.sh` builds]
    #[arg(long, value_name = "PATH")]
    relay: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// A process of the load generator
    #[command(hide = true)]
    Load {
        #[command(subcommand)]
        role: load::Role,
    },
}

fn main() -> Result<()> {
    let mut options = Options::parse();
    if let Some(Command::Load { role }) = options.command.take() {
        return role.run();
    }
    let out = match &options.out {
        Some(out) => out.clone(),
        None if options.quick => std::env::current_exe()?.with_file_name("peers-quick"),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../results"),
    };
    let failures = if options.table { 0 } else { measure(&options, &out)? };
    if options.list {
        return Ok(());
    }
    let files = Results::read_all(&out)?;
    let chosen = report::chosen(&files);
    let all = files.iter().flat_map(|file| &file.rows);
    fs::write(out.join("table.md"), report::table(all, &files))?;
    plot::draw(&out.join("ratios.svg"), &chosen)?;
    if options.readme {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let text = fs::read_to_string(&readme).context("can't read README.md")?;
        let table = report::table(chosen, &files);
        let text = report::insert(&text, &format!("{PLOT}{table}"));
        fs::write(readme, text.context("README.md has no place for the table")?)?;
    }
    ensure!(failures == 0, "{failures} runs failed");
    Ok(())
}

/// The plot as README.md shows it.
const PLOT: &str = "![smoq by its peers, on a logarithmic axis](benches/results/ratios.svg)\n\n";

/// Runs the cases, and returns how many runs failed.
fn measure(options: &Options, out: &Path) -> Result<usize> {
    let quick = options.quick;
    let mut cases = Vec::new();
    cases.extend(rows::polled::cases(quick));
    cases.extend(rows::tasks::cases(quick));
    cases.extend(rows::cores::cases(quick));
    cases.extend(rows::chat::cases(quick));
    cases.extend(rows::heap::cases(quick));
    cases.extend(rows::sessions::cases(quick));
    cases.extend(rows::quic::cases(quick));
    let relays = Relays::find(!quick && !options.list, options.relay.clone())?;
    cases.extend(rows::relay::cases(quick, &relays));
    cases.extend(rows::idle::cases(quick, &relays));
    cases.extend(rows::congested::cases(quick, &relays));
    cases.extend(rows::far::cases(quick, &relays));
    cases.extend(rows::stress::cases(quick, &relays));
    let is_chosen = |case: &Case| {
        options.only.is_empty() || options.only.iter().any(|part| case.name.contains(part))
    };
    cases.retain(is_chosen);
    ensure!(!cases.is_empty(), "no case has such a name; --list shows them");
    if options.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return Ok(0);
    }
    let machine = Machine::describe();
    if cfg!(debug_assertions) && !quick {
        eprintln!("this is a debug build: its figures say nothing");
    }
    if machine.load > 0.5 && !quick {
        eprintln!("the machine is busy (load {}): its figures say little", machine.load);
    }
    let rounds = if quick { 1 } else { options.rounds };
    let mut failures = 0;
    for case in cases {
        let (name, begun) = (case.name.clone(), Instant::now());
        let (rows, failed) = case.measure(rounds);
        failures += failed;
        eprintln!("{name}: {:.1} s", begun.elapsed().as_secs_f64());
        rows.iter().for_each(|row| println!("{}", report::line(row)));
        // Written after each case: a run may be stopped.
        Results { machine: machine.clone(), rows }.write(out)?;
    }
    Ok(failures)
}
