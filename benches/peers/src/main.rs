//! smoq beside its peers on the same work, in one run:
//!
//! ```text
//! cargo run --release -p smoq-bench-peers [-- --only PATTERN] [--rounds N] [--quick]
//! ```
//!
//! Each case runs smoq and its peers in turns, for some rounds. A line a row is printed: the medians, their ratio and
//! the range of the rounds. The same goes to `benches/results`, as JSON, as a Markdown table and as a plot.

mod case;
mod load;
mod machine;
mod plot;
mod process;
mod relays;
mod report;
mod rows;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

use crate::case::{Case, Row};
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
    /// A Markdown file that gets the table between `<!-- peers -->` and `<!-- /peers -->`; may be repeated
    #[arg(long, value_name = "FILE")]
    readme: Vec<PathBuf>,
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
    if !options.table {
        measure(&options, &out)?;
    }
    if options.list {
        return Ok(());
    }
    let files = Results::read_all(&out)?;
    let table = report::table(&files);
    fs::write(out.join("table.md"), &table)?;
    plot::draw(&out.join("ratios.svg"), &files)?;
    for readme in &options.readme {
        let text = fs::read_to_string(readme)
            .with_context(|| format!("can't read {}", readme.display()))?;
        let text = report::insert(&text, &table);
        let text =
            text.with_context(|| format!("no place for the table in {}", readme.display()))?;
        fs::write(readme, text)?;
    }
    Ok(())
}

fn measure(options: &Options, out: &Path) -> Result<()> {
    let quick = options.quick;
    let mut cases = Vec::new();
    cases.extend(rows::polled::cases(quick));
    cases.extend(rows::tasks::cases(quick));
    cases.extend(rows::heap::cases(quick));
    cases.extend(rows::sessions::cases(quick));
    cases.extend(rows::quic::cases(quick));
    let relays = Relays::find(!quick && !options.list, options.relay.clone())?;
    cases.extend(rows::relay::cases(quick, &relays));
    cases.extend(rows::idle::cases(quick, &relays));
    cases.extend(rows::stress::cases(quick, &relays));
    let is_chosen = |case: &Case| {
        options.only.is_empty() || options.only.iter().any(|part| case.name.contains(part))
    };
    cases.retain(is_chosen);
    ensure!(!cases.is_empty(), "no case has such a name; --list shows them");
    if options.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return Ok(());
    }
    let machine = Machine::describe();
    if cfg!(debug_assertions) && !quick {
        eprintln!("this is a debug build: its figures say nothing");
    }
    if machine.load > 0.5 && !quick {
        eprintln!("the machine is busy (load {}): its figures say little", machine.load);
    }
    let rounds = if quick { 1 } else { options.rounds };
    for case in cases {
        let rows: Vec<Row> = case.measure(rounds);
        rows.iter().for_each(|row| println!("{}", report::line(row)));
        // Written after each case: a run may be stopped.
        Results { machine: machine.clone(), rows }.write(out)?;
    }
    Ok(())
}
