//! The chart of a run: for each section that has both, the bar of Node and the bar of pgio. It is light or dark as the
//! reader's browser is.

use std::fmt::Write;

use super::results::{Figure, Run, Section};

const WIDTH: usize = 720;
const GROUP: usize = 74;
const LONGEST: f64 = 460.0;

/// The units of what is drawn. Counts of what Postgres does are not: others make it write as well.
const UNITS: [&str; 4] = ["events/s", "ms", "MiB", "µs"];

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600}.n{fill:#8c959f}.p{fill:#1a7f37}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#6e7681}.p{fill:#3fb950}}";

/// An SVG document.
pub fn draw(run: &Run) -> String {
    let groups: Vec<_> = run.sections.iter().filter_map(pair).collect();
    let height = groups.len() * GROUP + 16;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Node and pgio side by side\"><style>{STYLE}</style>\n"
    );
    for (index, (title, node, pgio)) in groups.iter().enumerate() {
        let top = index * GROUP + 20;
        let most = node.value.max(pgio.value);
        line(&mut svg, format_args!("<text class=\"t\" x=\"8\" y=\"{top}\">{}</text>", escaped(title)));
        for (row, (class, name, figure)) in [("n", "Node", node), ("p", "pgio", pgio)].into_iter().enumerate()
        {
            let y = top + 8 + row * 20;
            let width = (figure.value / most * LONGEST).max(1.0);
            let (base, end) = (y + 13, 64.0 + width);
            line(&mut svg, format_args!("<text x=\"8\" y=\"{base}\">{name}</text>"));
            line(
                &mut svg,
                format_args!(
                    "<rect class=\"{class}\" x=\"56\" y=\"{y}\" width=\"{width:.0}\" height=\"16\" rx=\"2\"/>"
                ),
            );
            line(&mut svg, format_args!("<text x=\"{end:.0}\" y=\"{base}\">{}</text>", figure.text()));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    writeln!(svg, "{text}").expect("strings grow");
}

/// The first figures of Node and of pgio that have the same unit.
fn pair(section: &Section) -> Option<(&str, &Figure, &Figure)> {
    let of = |names: &[&str]| {
        let is = |figure: &&Figure| names.iter().any(|name| figure.name.starts_with(name));
        section.figures.iter().filter(|figure| UNITS.contains(&figure.unit.as_str())).find(is)
    };
    let (node, pgio) = (of(&["Node", "npm emitter"])?, of(&["pgio"])?);
    (node.unit == pgio.unit).then_some((&section.title, node, pgio))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
