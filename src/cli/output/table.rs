//! Formats tables as text. Each row is one line, even with hostile text or on a narrow terminal.

use comfy_table::{Attribute, CellAlignment, ColumnConstraint, Row, TableStyle, Width};

pub(in crate::cli) use comfy_table::{Cell, Color};

use super::lines::Lines;
use super::safe;
use crate::cli::exit::Failure;

/// The gap between two columns.
const GAP: u16 = 2;

/// The maximum width of a fixed column if the terminal is too narrow.
const WIDE: u16 = 40;

/// The minimum width of a flexible column.
const SHARE: u16 = 12;

/// A column, and how it shrinks on a narrow terminal.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Column {
    title: &'static str,
    alignment: CellAlignment,
    /// It takes the remaining width.
    shares: bool,
    /// It may be truncated to this width.
    cut: Option<u16>,
    /// It may be omitted.
    optional: bool,
}

impl Column {
    /// A column of text that is shown completely, if possible.
    pub(in crate::cli) const fn text(title: &'static str) -> Self {
        Self { title, alignment: CellAlignment::Left, shares: false, cut: None, optional: false }
    }

    /// A column of numbers.
    pub(in crate::cli) const fn number(title: &'static str) -> Self {
        Self { alignment: CellAlignment::Right, ..Self::text(title) }
    }

    /// Lets the column be truncated to this width.
    pub(in crate::cli) const fn cut_to(self, width: u16) -> Self {
        Self { cut: Some(width), ..self }
    }

    /// Lets the column be omitted. Optional columns are omitted from right to left.
    pub(in crate::cli) const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Lets the column share the remaining width with others.
    pub(in crate::cli) const fn sharing(self) -> Self {
        Self { shares: true, ..self }
    }
}

/// A cell with text of any origin. The text is escaped.
pub(in crate::cli) fn cell(text: &str) -> Cell {
    Cell::new(safe::line(text))
}

/// Rows below a header, without borders, so that `grep` and `awk` can process them.
pub(in crate::cli) struct Table {
    table: comfy_table::Table,
    columns: Vec<Column>,
}

impl Table {
    pub(in crate::cli) fn new(columns: Vec<Column>) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(TableStyle::new()).set_truncation_indicator("…");
        // The delimiter occurs in no cell. So text is truncated at the width of its column, and not after a word.
        table.set_delimiter('\0');
        // The output of the lines decides whether they have colours.
        table.enforce_styling().style_text_only();
        let title = |column: &Column| Cell::new(column.title).add_attribute(Attribute::Bold);
        let mut header = Row::from(columns.iter().map(title).collect::<Vec<_>>());
        header.max_height(1);
        table.set_header(header);
        Self { table, columns }
    }

    /// Adds a row with a cell for each column.
    pub(in crate::cli) fn row(&mut self, cells: Vec<Cell>) {
        let mut row = Row::from(cells);
        row.max_height(1);
        self.table.add_row(row);
    }

    /// The lines, none wider than `width`. Without a width nothing is truncated.
    pub(in crate::cli) fn lines(mut self, width: Option<usize>) -> impl Iterator<Item = String> {
        let natural = self.table.column_max_content_widths();
        let widths = match width {
            Some(width) => fit(&self.columns, &natural, u16::try_from(width).unwrap_or(u16::MAX)),
            None => natural.into_iter().map(Some).collect(),
        };
        let last = widths.iter().rposition(Option::is_some);
        for (index, (column, shape)) in self.table.column_iter_mut().zip(&self.columns).enumerate() {
            let gap = if Some(index) == last { 0 } else { GAP };
            column.set_padding((0, gap)).set_cell_alignment(shape.alignment);
            column.set_constraint(match widths.get(index).copied().flatten() {
                Some(width) => ColumnConstraint::Absolute(Width::Fixed(width.max(1).saturating_add(gap))),
                None => ColumnConstraint::Hidden,
            });
        }
        let lines: Vec<_> = self.table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.into_iter()
    }

    /// Prints the table on stdout, as wide as stdout allows.
    pub(in crate::cli) fn print(self, lines: &mut Lines) -> Result<(), Failure> {
        let width = lines.width();
        self.lines(width).try_for_each(|line| lines.text(&line))
    }
}

/// The width of each column; `None` if it is omitted.
fn fit(columns: &[Column], natural: &[u16], room: u16) -> Vec<Option<u16>> {
    let mut widths: Vec<_> = natural.iter().map(|width| Some(*width)).collect();
    let fits = |widths: &[Option<u16>]| total(columns, widths) <= u32::from(room);
    let is_tight = |widths: &[Option<u16>]| {
        let with_shares = |(width, column): (&Option<u16>, &Column)| match column.shares {
            true => width.map(|width| width.min(SHARE)),
            false => *width,
        };
        let least: Vec<_> = widths.iter().zip(columns).map(with_shares).collect();
        !fits(&least)
    };
    if fits(&widths) {
        return widths;
    }
    for (width, column) in widths.iter_mut().zip(columns).filter(|(_, column)| !column.shares) {
        *width = width.map(|width| width.min(WIDE.max(title_width(column))));
    }
    for index in 0..columns.len() {
        if let Some(cut) = columns[index].cut
            && is_tight(&widths)
        {
            let cut = cut.max(title_width(&columns[index]));
            widths[index] = widths[index].map(|width| width.min(cut));
        }
    }
    for index in (0..columns.len()).rev() {
        if columns[index].optional && is_tight(&widths) {
            widths[index] = None;
        }
    }
    share(columns, &mut widths, room);
    // If the terminal is still too narrow, the widest column shrinks.
    while !fits(&widths) {
        match widths.iter_mut().flatten().max().filter(|widest| **widest > 1) {
            Some(widest) => *widest -= 1,
            None => break,
        }
    }
    widths
}

/// Shares out the width that the other columns leave. Narrow columns come first, and pass on the width that they do not
/// need.
fn share(columns: &[Column], widths: &mut [Option<u16>], room: u16) {
    let mut sharing: Vec<_> =
        (0..columns.len()).filter(|&index| columns[index].shares && widths[index].is_some()).collect();
    sharing.sort_by_key(|&index| widths[index]);
    let others: u32 = total(columns, widths)
        - sharing.iter().map(|&index| u32::from(widths[index].unwrap_or_default())).sum::<u32>();
    let mut left = u16::try_from(u32::from(room).saturating_sub(others)).unwrap_or(u16::MAX);
    let mut waiting = u16::try_from(sharing.len()).unwrap_or(u16::MAX);
    for index in sharing {
        let fair = (left / waiting).max(title_width(&columns[index]));
        let width = widths[index].unwrap_or_default().min(fair);
        widths[index] = Some(width);
        left = left.saturating_sub(width);
        waiting -= 1;
    }
}

/// The width of a row.
fn total(columns: &[Column], widths: &[Option<u16>]) -> u32 {
    debug_assert_eq!(columns.len(), widths.len());
    let shown: Vec<_> = widths.iter().flatten().map(|width| u32::from(*width)).collect();
    shown.iter().sum::<u32>() + u32::from(GAP) * u32::try_from(shown.len().saturating_sub(1)).unwrap_or(0)
}

fn title_width(column: &Column) -> u16 {
    // Titles are short and ASCII.
    u16::try_from(column.title.len()).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr;

    fn table() -> Table {
        let columns = vec![
            Column::text("ID"),
            Column::text("NODE").cut_to(8),
            Column::text("ADDRESS").optional(),
            Column::number("N"),
            Column::text("ROOMS").sharing(),
            Column::text("DATA").sharing(),
        ];
        let mut table = Table::new(columns);
        for (rooms, data) in [("r1", "{}"), ("漢字".repeat(60).as_str(), "a\x1b[2J\nb\u{202e}\u{301}")] {
            let texts = ["ABCDEFGHIJKLMNOPQRST", "0123456789abcdef", "127.0.0.1", "12", rooms, data];
            table.row(texts.map(cell).into());
        }
        table
    }

    fn plain(width: Option<usize>) -> Vec<String> {
        table().lines(width).map(|line| anstream::adapter::strip_str(&line).to_string()).collect()
    }

    #[test]
    fn one_line_a_row_and_none_too_wide() {
        for width in [1, 10, 20, 40, 60, 80, 120, 200] {
            let lines = plain(Some(width));
            assert_eq!(lines.len(), 3, "{width}: {lines:#?}");
            for line in &lines {
                assert!(!line.contains(['\x1b', '\n', '\u{202e}']), "{line:?}");
                assert!(line.width() <= width.max(13), "{width}: {} {line:?}", line.width());
            }
        }
    }

    #[test]
    fn what_matters_stays() {
        let narrow = plain(Some(60));
        assert!(narrow[1].starts_with("ABCDEFGHIJKLMNOPQRST  0123456…  "), "{narrow:#?}");
        assert!(!narrow[0].contains("ADDRESS"), "{narrow:#?}");
        let wide = plain(Some(200));
        assert!(
            wide[1].starts_with("ABCDEFGHIJKLMNOPQRST  0123456789abcdef  127.0.0.1  12  r1 "),
            "{wide:#?}"
        );
        assert!(wide[2].contains('…') && wide[2].contains("a\\u{1b}[2J\\nb\\u{202e}"), "{wide:#?}");
        let uncut = plain(None);
        assert!(uncut[2].contains(&"漢字".repeat(60)) && !uncut[2].contains('…'), "{uncut:#?}");
    }
}
