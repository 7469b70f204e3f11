//! The results of a run, and the files that contain them: `bench/results.json`, `docs/benchmarks.md` and its chart.

use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{chart, report};

/// The results of a run.
#[derive(Serialize, Deserialize)]
pub struct Run {
    pub machine: Vec<String>,
    pub sections: Vec<Section>,
}

/// Figures that belong together.
#[derive(Serialize, Deserialize)]
pub struct Section {
    pub title: String,
    /// `None` if the chart omits this section. Otherwise the chart shows the figures whose names end with this
    /// statistic, such as `p99`, or the first figures if it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chart: Option<String>,
    pub figures: Vec<Figure>,
}

/// One figure: the median if there are several rounds.
#[derive(Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    pub value: f64,
    /// The lowest and the highest of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<(f64, f64)>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub command: String,
}

impl Figure {
    pub fn one(name: &str, unit: &str, value: f64, command: &str) -> Self {
        Self { name: name.into(), unit: unit.into(), value, spread: None, command: command.into() }
    }

    /// The value with its unit.
    pub fn text(&self) -> String {
        format!("{} {}", self.number(self.value), self.unit)
    }

    fn number(&self, value: f64) -> String {
        match self.unit.as_str() {
            "ms" if value < 10.0 => format!("{value:.2}"),
            "ms" | "MiB" | "KiB" => format!("{value:.1}"),
            "µs" | "%" | "ratio" => format!("{value:.2}"),
            _ => report::thousands(value),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, value) = (&self.name, self.number(self.value));
        write!(f, "  {name:<42}{value:>12} {}", self.unit)?;
        if let Some((low, high)) = self.spread {
            write!(f, "  ({} to {})", self.number(low), self.number(high))?;
        }
        write!(f, "\n      {}", self.command)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.machine.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        for section in &self.sections {
            writeln!(f, "\n{}", section.title)?;
            for figure in &section.figures {
                match figure.command.is_empty() {
                    true => writeln!(f, "  {:<42}{:>12.2}", figure.name, figure.value)?,
                    false => writeln!(f, "{figure}")?,
                }
            }
        }
        Ok(())
    }
}

const BEGIN: &str = "<!-- the run begins -->";
const END: &str = "<!-- the run ends -->";

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Writes the results, the chart, and the text of the run in `docs/benchmarks.md`.
pub fn write(run: &Run) -> io::Result<()> {
    std::fs::create_dir_all(root().join("bench"))?;
    let json = serde_json::to_string_pretty(run)? + "\n";
    std::fs::write(root().join("bench/results.json"), json)?;
    write_report(run)
}

/// Writes the chart and the text again, from the results of the last run.
pub fn redraw() -> io::Result<()> {
    write_report(&serde_json::from_slice(&std::fs::read(root().join("bench/results.json"))?)?)
}

fn write_report(run: &Run) -> io::Result<()> {
    std::fs::write(root().join("docs/pictures/benchmarks.svg"), chart::draw(run))?;
    let page = root().join("docs/benchmarks.md");
    let text = std::fs::read_to_string(&page)?;
    let (before, rest) = text.split_once(BEGIN).ok_or_else(|| no_mark(BEGIN))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| no_mark(END))?;
    std::fs::write(&page, format!("{before}{BEGIN}\n```text\n{run}```\n{END}{after}"))
}

fn no_mark(mark: &str) -> io::Error {
    io::Error::other(format!("docs/benchmarks.md has no line {mark}"))
}
