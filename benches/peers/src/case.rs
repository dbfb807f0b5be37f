//! A case: the same work on several sides, measured in turns.

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Whether less or more of a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Lower,
    Higher,
}

impl Better {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
        }
    }
}

/// One figure that each side of a case returns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// Empty if the case has only one.
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

/// A figure of which less is better.
pub(crate) const fn lower(name: &'static str, unit: &'static str) -> Metric {
    Metric { name, unit, better: Better::Lower }
}

/// A figure of which more is better.
pub(crate) const fn higher(name: &'static str, unit: &'static str) -> Metric {
    Metric { name, unit, better: Better::Higher }
}

type Run = Box<dyn FnMut() -> Result<Vec<f64>>>;

/// One implementation of the work.
struct Side {
    name: &'static str,
    run: Run,
}

/// The same work on several sides. The first one is smoq.
pub(crate) struct Case {
    pub(crate) name: String,
    metrics: Vec<Metric>,
    sides: Vec<Side>,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, metrics: impl Into<Vec<Metric>>) -> Self {
        Self { name: name.into(), metrics: metrics.into(), sides: Vec::new() }
    }

    /// Adds a side. `run` does the work once and returns one figure a metric; NaN if it has none.
    pub(crate) fn side(
        mut self,
        name: &'static str,
        run: impl FnMut() -> Result<Vec<f64>> + 'static,
    ) -> Self {
        self.sides.push(Side { name, run: Box::new(run) });
        self
    }

    /// Runs the sides in turns, so that a change in the speed of the machine affects all of them. Also returns how many
    /// runs failed.
    pub(crate) fn measure(mut self, rounds: usize) -> (Vec<Row>, usize) {
        let mut failures = 0;
        // By side, metric and round.
        let mut figures = vec![vec![Vec::new(); self.metrics.len()]; self.sides.len()];
        for _ in 0..rounds {
            for (side, figures) in self.sides.iter_mut().zip(&mut figures) {
                match (side.run)() {
                    Ok(round) => {
                        assert_eq!(round.len(), figures.len(), "{} of {}", side.name, self.name);
                        for (figures, figure) in figures.iter_mut().zip(round) {
                            figures.push(figure);
                        }
                    }
                    Err(error) => {
                        eprintln!("{}: {} failed: {error:#}", self.name, side.name);
                        failures += 1;
                    }
                }
            }
        }
        (self.rows(&figures), failures)
    }

    /// A row for each metric and peer that has a figure.
    fn rows(&self, figures: &[Vec<Vec<f64>>]) -> Vec<Row> {
        let mut rows = Vec::new();
        for (n, metric) in self.metrics.iter().enumerate() {
            let name = match metric.name {
                "" => self.name.clone(),
                metric => format!("{}/{metric}", self.name),
            };
            let Some(ours) = Figure::new(&figures[0][n]) else { continue };
            let row = |name: String, peer: Option<Figure>| Row {
                name,
                unit: metric.unit.to_owned(),
                better: metric.better,
                ours: ours.clone(),
                peer,
            };
            let peers = self.sides.iter().zip(figures).skip(1);
            let mut peers: Vec<_> = peers
                .filter_map(|(side, figures)| {
                    Some(row(format!("{name}/{}", side.name), Some(Figure::new(&figures[n])?)))
                })
                .collect();
            if peers.is_empty() {
                peers.push(row(name, None));
            }
            rows.append(&mut peers);
        }
        rows
    }
}

/// The rounds of one side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) rounds: Vec<f64>,
}

impl Figure {
    /// `None` without a number.
    fn new(rounds: &[f64]) -> Option<Self> {
        let rounds: Vec<f64> = rounds.iter().copied().filter(|figure| figure.is_finite()).collect();
        let mut sorted = rounds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[half]
        } else {
            sorted[half - 1].midpoint(sorted[half])
        };
        Some(Self { median, min, max, rounds })
    }
}

/// One line of the output: smoq beside one peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) better: Better,
    pub(crate) ours: Figure,
    /// `None` where no peer can do the work.
    pub(crate) peer: Option<Figure>,
}

impl Row {
    /// Ours by the peer's. `None` if the peer's figure is zero.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let peer = self.peer.as_ref()?.median;
        (peer != 0.0).then(|| self.ours.median / peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_returns_the_median_of_its_rounds() {
        let mut rounds = [3.0, 1.0, 2.0].into_iter();
        let case = Case::new("work", [lower("", "ns")])
            .side("smoq", move || Ok(vec![rounds.next().unwrap()]))
            .side("peer", || Ok(vec![4.0]));
        let (rows, failures) = case.measure(3);
        assert_eq!((rows.len(), failures), (1, 0));
        assert_eq!(rows[0].name, "work/peer");
        assert_eq!((rows[0].ours.median, rows[0].ours.min, rows[0].ours.max), (2.0, 1.0, 3.0));
        assert_eq!(rows[0].ratio(), Some(0.5));
    }

    #[test]
    fn only_a_side_with_a_figure_is_a_peer() {
        let case = Case::new("work", [lower("a", "ns"), higher("b", "x")])
            .side("smoq", || Ok(vec![1.0, 2.0]))
            .side("floor", || Ok(vec![1.0, f64::NAN]))
            .side("broken", || anyhow::bail!("no"));
        let (rows, failures) = case.measure(2);
        let names: Vec<_> = rows.into_iter().map(|row| row.name).collect();
        assert_eq!((names, failures), (vec!["work/a/floor".to_owned(), "work/b".to_owned()], 2));
    }
}
