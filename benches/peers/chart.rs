//! The chart of a run: some sections, each with a bar for Node, socketioxide and pgio. It follows the colour scheme of the
//! browser (light or dark).

use std::fmt::Write;

use super::results::{Figure, Run, Section};

const WIDTH: usize = 720;
const BAR: usize = 20;
const LONGEST: f64 = 420.0;

/// The contenders: the class of their bars, their label, and the beginnings of the names of their figures.
const CONTENDERS: [(&str, &str, &[&str]); 3] = [
    ("n", "Node", &["Node", "npm emitter"]),
    ("s", "socketioxide", &["socketioxide"]),
    ("p", "pgio", &["pgio"]),
];

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600}.d{font-size:12px;opacity:.75}.n{fill:#8c959f}.s{fill:#bc8f5f}\
.p{fill:#1a7f37}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#6e7681}.s{fill:#9a6c3c}.p{fill:#3fb950}}";

/// An SVG document.
pub fn draw(run: &Run) -> String {
    let mut body = String::new();
    let mut top = 20;
    for section in &run.sections {
        let bars = bars(section);
        if bars.len() < 2 {
            continue;
        }
        let most = bars.iter().map(|(.., figure)| figure.value).fold(f64::MIN_POSITIVE, f64::max);
        line(
            &mut body,
            format_args!("<text class=\"t\" x=\"8\" y=\"{top}\">{}</text>", escaped(&section.title)),
        );
        top += 17;
        let legend = legend(section.chart.as_deref().unwrap_or_default(), bars[0].2);
        line(&mut body, format_args!("<text class=\"d\" x=\"8\" y=\"{top}\">{legend}</text>"));
        for (row, (class, name, figure)) in bars.iter().enumerate() {
            let y = top + 8 + row * BAR;
            let width = (figure.value / most * LONGEST).max(1.0);
            let (base, end) = (y + 13, 108.0 + width);
            line(&mut body, format_args!("<text x=\"8\" y=\"{base}\">{name}</text>"));
            line(
                &mut body,
                format_args!(
                    "<rect class=\"{class}\" x=\"100\" y=\"{y}\" width=\"{width:.0}\" height=\"16\" rx=\"2\"/>"
                ),
            );
            line(&mut body, format_args!("<text x=\"{end:.0}\" y=\"{base}\">{}</text>", figure.text()));
        }
        top += bars.len() * BAR + 34;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {top}\" role=\"img\" \
         aria-label=\"Benchmarks of Node, socketioxide and pgio\"><style>{STYLE}</style>\n{body}</svg>\n"
    )
}

/// The statistic, and the direction in which a value is better: a rate is better when it is higher, and a time or an
/// amount of memory when it is lower.
fn legend(statistic: &str, figure: &Figure) -> String {
    let direction = if figure.unit.ends_with("/s") { "higher is better" } else { "lower is better" };
    match statistic {
        "" => direction.to_owned(),
        "p99" => format!("99th percentile (p99); {direction}"),
        other => format!("{}; {direction}", escaped(other)),
    }
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    writeln!(svg, "{text}").expect("strings grow");
}

/// The first figures of the contenders that the section shows.
fn bars(section: &Section) -> Vec<(&'static str, &'static str, &Figure)> {
    let Some(statistic) = section.chart.as_deref() else { return Vec::new() };
    let of = |(class, name, begins): (_, _, &[&str])| {
        let is = |figure: &&Figure| {
            let is_ratio = figure.unit == "ratio";
            let is_its = begins.iter().any(|begin| figure.name.starts_with(begin));
            is_its && !is_ratio && figure.name.ends_with(statistic)
        };
        Some((class, name, section.figures.iter().find(is)?))
    };
    CONTENDERS.into_iter().filter_map(of).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
