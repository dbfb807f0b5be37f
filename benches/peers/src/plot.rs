//! The plot: one bar per row, as long as the ratio of ours to the peer's, on a logarithmic axis.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::case::{Better, Row};
use crate::report::short;

/// Pixels of a bar with its gap, of the names, of the bars, and of the head.
const ROW: i32 = 22;
const NAMES: i32 = 340;
const BARS: i32 = 560;
const HEAD: i32 = 56;
/// The ends of the axis: a hundredth and ten times.
const AXIS: (f64, f64) = (0.01, 10.0);

/// Where a ratio is on the axis, in pixels.
fn x(ratio: f64) -> i32 {
    let (low, high) = (AXIS.0.log10(), AXIS.1.log10());
    let part = (ratio.log10().clamp(low, high) - low) / (high - low);
    NAMES + (part * f64::from(BARS)) as i32
}

/// Draws the rows that have a peer. A bar that goes left from 1 is less than the peer's figure; it is green if
/// that is better.
pub(crate) fn draw(file: &Path, rows: &[&Row]) -> Result<()> {
    let rows: Vec<_> = rows.iter().filter_map(|row| Some((row, row.ratio()?))).collect();
    let bottom = HEAD + ROW * i32::try_from(rows.len())?;
    let size = (NAMES + BARS + 70, bottom + 16);
    let area = SVGBackend::new(file, (size.0 as u32, size.1 as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |size: i32, color: RGBColor, at| {
        ("sans-serif", size).into_font().color(&color).pos(Pos::new(at, VPos::Center))
    };
    let title = "smoq / peer (green: smoq is ahead)";
    area.draw(&Text::new(title, (NAMES, 14), text(15, BLACK, HPos::Left)))?;
    for tick in [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0] {
        let color = if tick == 1.0 { BLACK } else { RGBColor(220, 220, 220) };
        area.draw(&PathElement::new([(x(tick), HEAD - 6), (x(tick), bottom)], color))?;
        let style = text(12, BLACK, HPos::Center);
        area.draw(&Text::new(format!("{tick}"), (x(tick), HEAD - 16), style))?;
    }
    for (n, (row, ratio)) in rows.into_iter().enumerate() {
        let top = HEAD + ROW * i32::try_from(n)?;
        let middle = top + ROW / 2;
        let ahead = (ratio < 1.0) == (row.better == Better::Lower);
        let color = if ahead { RGBColor(46, 139, 87) } else { RGBColor(200, 90, 60) };
        let (left, right) = (x(ratio).min(x(1.0)), x(ratio).max(x(1.0)));
        area.draw(&Rectangle::new([(left, top + 3), (right, top + ROW - 3)], color.filled()))?;
        let style = text(12, BLACK, HPos::Right);
        area.draw(&Text::new(row.name.clone(), (NAMES - 8, middle), style))?;
        let style = text(12, BLACK, HPos::Left);
        area.draw(&Text::new(short(ratio), (right + 6, middle), style))?;
    }
    area.present()?;
    Ok(())
}
