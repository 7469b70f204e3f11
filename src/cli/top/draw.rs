//! Draws the picture on a terminal.

use std::time::Instant;

use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Padding, Paragraph, Row, Sparkline, Table};

use super::picture::Picture;
use super::view::{Sort, View};
use super::{sparkline, text};
use crate::cli::duration::short;
use crate::cli::output::number;
use crate::cli::traffic::By;
use crate::safe_text as safe;

/// The numbers of columns and rows from which the layout shows more.
const WIDE: u16 = 120;
const HIGH: u16 = 36;

/// The width of the list of servers, if there is room for it.
const SERVERS: u16 = 56;

/// The width of the label and the number before a sparkline.
const LABEL: u16 = 22;

/// The widths of the last minute of a row, on a wide and on a narrow terminal. Both divide 60.
const TREND: usize = 20;
const SHORT_TREND: usize = 12;

const KEYS: &[(&str, &str)] = &[
    ("Tab, 1 2 3", "rank by event, room or sender"),
    ("s", "sort by rate, bytes, count or name"),
    ("r", "reverse the order"),
    ("/", "filter by name or namespace (Enter keeps, Esc clears)"),
    ("space", "pause the display; counting continues"),
    ("↑ ↓ PgUp PgDn", "scroll"),
    ("?", "this help"),
    ("q, Esc", "quit"),
];

/// The styles. They are plain if the terminal shows no colours.
#[derive(Clone, Copy)]
struct Theme {
    is_coloured: bool,
}

impl Theme {
    fn colour(self, colour: Color) -> Style {
        if self.is_coloured { Style::new().fg(colour) } else { Style::new() }
    }

    fn dim(self) -> Style {
        if self.is_coloured { Style::new().fg(Color::DarkGray) } else { Style::new() }
    }

    fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }
}

/// Draws the whole screen.
pub(super) fn frame(frame: &mut Frame, picture: &Picture, view: &mut View) {
    let theme = Theme { is_coloured: view.is_coloured };
    let area = frame.area();
    let charts = if area.height >= HIGH { 4 } else { 1 };
    let [head, events, bytes, facts, tabs, rest, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(charts),
        Constraint::Length(charts),
        Constraint::Length(3),
        Constraint::Length(2),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    title(frame, head, picture, view, theme);
    let recent = &picture.recent;
    let rate = text::rate(picture.per_second(recent.events()));
    chart(frame, events, "events/s", &rate, &picture.events, theme, Color::Cyan);
    let size = text::bytes(picture.per_second(recent.bytes()));
    chart(frame, bytes, "bytes/s", &size, &picture.bytes, theme, Color::Magenta);
    frame.render_widget(Paragraph::new(facts_of(picture, theme)), facts);
    frame.render_widget(Paragraph::new(vec![Line::default(), ranking(view, theme)]), tabs);
    if area.width >= WIDE {
        let [left, right] =
            Layout::horizontal([Constraint::Min(1), Constraint::Length(SERVERS)]).spacing(2).areas(rest);
        rows(frame, left, picture, view, theme);
        servers(frame, right, picture, theme);
    } else {
        rows(frame, rest, picture, view, theme);
    }
    frame.render_widget(Paragraph::new(keys(view, theme)), foot);
    if view.has_help {
        help(frame, area, theme);
    }
}

fn title(frame: &mut Frame, area: Rect, picture: &Picture, view: &View, theme: Theme) {
    let time = picture.time.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string();
    let server = safe::line(&picture.server).into_owned();
    let mut left = vec![Span::styled("pgio top  ", theme.bold())];
    match picture.link.trouble() {
        Some(trouble) => left.push(Span::styled(safe::line(trouble).into_owned(), theme.bad())),
        None => left.push(Span::raw(format!("{server}  {}", picture.namespaces.join(" ")))),
    }
    let state = if view.is_paused { Span::styled("PAUSED  ", theme.bad()) } else { Span::raw("") };
    let right = Line::from(vec![state, Span::styled(time, theme.dim())]).alignment(Alignment::Right);
    let width = u16::try_from(right.width()).unwrap_or(u16::MAX);
    let [start, end] =
        Layout::horizontal([Constraint::Min(1), Constraint::Length(width)]).spacing(1).areas(area);
    frame.render_widget(Paragraph::new(Line::from(left)), start);
    frame.render_widget(Paragraph::new(right), end);
}

fn chart(
    frame: &mut Frame,
    area: Rect,
    label: &str,
    value: &str,
    history: &[u64],
    theme: Theme,
    colour: Color,
) {
    let [left, right] = Layout::horizontal([Constraint::Length(LABEL), Constraint::Min(1)]).areas(area);
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{label:<9}"), theme.dim()),
        Span::styled(format!("{value:>11}"), theme.bold()),
    ])];
    let shown = &history[history.len().saturating_sub(right.width.into())..];
    if area.height > 1 {
        let most = shown.iter().copied().max().unwrap_or_default();
        let most = if label == "bytes/s" { number::size(most) } else { number::count(most) };
        lines.push(Line::styled(format!("{:<9}{most:>11}", "max"), theme.dim()));
    }
    frame.render_widget(Paragraph::new(lines), left);
    // New seconds appear at the right.
    let blank = usize::from(right.width).saturating_sub(shown.len());
    let data: Vec<_> = std::iter::repeat_n(0, blank).chain(shown.iter().copied()).collect();
    frame.render_widget(Sparkline::default().data(data).style(theme.colour(colour)), right);
}

fn facts_of(picture: &Picture, theme: Theme) -> Vec<Line<'static>> {
    let recent = &picture.recent;
    let of = |count| text::rate(picture.per_second(count));
    let size = |count| text::bytes(picture.per_second(count));
    let fact = |label: &'static str, value: String| {
        [Span::styled(format!("{label} "), theme.dim()), Span::raw(value), Span::raw("   ")]
    };
    let missed = match recent.missed {
        0 => fact("missed", "0".into()),
        count => [
            Span::styled("missed ", theme.dim()),
            Span::styled(number::count(count), theme.bad()),
            Span::raw("   "),
        ],
    };
    let database = &picture.database;
    let lines = [
        vec![
            fact("servers", picture.nodes.len().to_string()),
            fact("sockets", text::sockets(picture)),
            fact("messages/s", of(recent.messages())),
            fact("acks/s", of(recent.acks())),
            missed,
        ],
        vec![
            fact("inline/s", size(recent.inline_bytes)),
            fact("attached/s", size(recent.attachment_bytes)),
            fact("commits/s", text::or_unknown(database.commits_per_second, text::rate)),
            fact("WAL/s", text::or_unknown(database.wal_per_second, text::bytes)),
        ],
        vec![fact("queue", text::queue(picture)), fact("attachments", text::attachments(picture))],
    ];
    lines.into_iter().map(|facts| Line::from(facts.concat())).collect()
}

fn ranking(view: &View, theme: Theme) -> Line<'static> {
    let mut spans = Vec::new();
    for by in By::ALL {
        let label = format!(" {} ", by.name());
        spans.push(match by == view.by {
            true => Span::styled(label, theme.bold().add_modifier(Modifier::REVERSED)),
            false => Span::styled(label, theme.dim()),
        });
        spans.push(Span::raw(" "));
    }
    let arrow = if view.is_reversed { "↑" } else { "↓" };
    spans.push(Span::styled(" sort ", theme.dim()));
    spans.push(Span::raw(format!("{} {arrow}", view.sort.name())));
    if view.is_typing || !view.filter.is_empty() {
        let cursor = if view.is_typing { "▏" } else { "" };
        spans.push(Span::styled("   filter ", theme.dim()));
        spans.push(Span::styled(format!("{}{cursor}", safe::line(&view.filter)), theme.bold()));
    }
    Line::from(spans)
}

fn rows(frame: &mut Frame, area: Rect, picture: &Picture, view: &mut View, theme: Theme) {
    let sorted = picture.sorted(view.sort, view.is_reversed, &view.filter);
    let has_other = picture.other.messages > 0 && view.filter.is_empty();
    view.page = usize::from(area.height).saturating_sub(1 + usize::from(has_other)).max(1);
    view.scrolled = view.scrolled.min(sorted.len().saturating_sub(view.page));
    let title = |label: &'static str, sort: Option<Sort>| match sort == Some(view.sort) {
        true => Span::styled(label, theme.bold().add_modifier(Modifier::UNDERLINED)),
        false => Span::styled(label, theme.bold()),
    };
    let right = |span: Span<'static>| Line::from(span).alignment(Alignment::Right);
    let trend = if frame.area().width >= WIDE { TREND } else { SHORT_TREND };
    // A single namespace needs no column.
    let nsp_width = if picture.namespaces.len() > 1 { 10 } else { 0 };
    let header = Row::new(vec![
        Line::from(title(text::title(picture.by), Some(Sort::Name))),
        Line::from(title("NAMESPACE", None)),
        right(title("PER SEC", Some(Sort::Rate))),
        right(title("BYTES/S", Some(Sort::Bytes))),
        right(title("10 MIN", Some(Sort::Count))),
        Line::from(title("LAST MINUTE", None)),
    ]);
    let number = |text: String| Line::from(text).alignment(Alignment::Right);
    let row = |name: String, row: &super::picture::Ranked, style: Style| {
        Row::new(vec![
            Line::from(name),
            Line::styled(row.namespace.clone(), theme.dim()),
            number(text::rate(row.per_second)),
            number(text::bytes(row.bytes_per_second)),
            number(number::count(row.messages)),
            Line::styled(sparkline::of(&parts(&row.trend, trend), trend), theme.colour(Color::Cyan)),
        ])
        .style(style)
    };
    let shown = sorted.iter().skip(view.scrolled).take(view.page);
    let mut lines: Vec<_> = shown.map(|one| row(text::name(one, picture.by), one, Style::new())).collect();
    if has_other {
        lines.push(row("(others)".into(), &picture.other, theme.dim()));
    }
    let widths = [
        Constraint::Min(12),
        Constraint::Length(nsp_width),
        Constraint::Length(8),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(trend as u16),
    ];
    frame.render_widget(Table::new(lines, widths).header(header).column_spacing(1), area);
    if sorted.is_empty() {
        let nothing = match view.filter.is_empty() {
            true => "no messages in the last ten minutes",
            false => "no name matches the filter",
        };
        let [_, below] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
        frame.render_widget(Paragraph::new(Line::styled(nothing, theme.dim())), below);
    }
}

/// Sums up the seconds of a minute, with one part for each bar.
fn parts(trend: &[u64], bars: usize) -> Vec<u64> {
    trend.rchunks(60 / bars).rev().map(|part| part.iter().sum()).collect()
}

fn servers(frame: &mut Frame, area: Rect, picture: &Picture, theme: Theme) {
    let now = Instant::now();
    let right = |text: String| Line::from(text).alignment(Alignment::Right);
    let row = |node: &crate::cli::observer::NodeView| {
        let ago = short(now.saturating_duration_since(node.last_heard));
        Row::new(vec![
            Line::from(safe::cut(node.name.uid.as_str(), 32).into_owned()),
            Line::styled(safe::line(node.name.nsp.as_str()).into_owned(), theme.dim()),
            right(
                node.round_trip
                    .map_or(text::UNKNOWN.into(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3)),
            ),
            right(ago),
            right(node.sockets.map_or(text::UNKNOWN.into(), |count| number::count(count as u64))),
        ])
    };
    let title = |label: &'static str| Span::styled(label, theme.bold());
    let header = Row::new(vec![
        Line::from(title("SERVER")),
        Line::from(title("NAMESPACE")),
        Line::from(title("RTT")).alignment(Alignment::Right),
        Line::from(title("SEEN")).alignment(Alignment::Right),
        Line::from(title("SOCKETS")).alignment(Alignment::Right),
    ]);
    let widths = [
        Constraint::Min(16),
        Constraint::Length(12),
        Constraint::Length(9),
        Constraint::Length(5),
        Constraint::Length(8),
    ];
    let room = usize::from(area.height).saturating_sub(1);
    let mut lines: Vec<_> = picture.nodes.iter().take(room).map(row).collect();
    if picture.nodes.len() > room {
        lines.truncate(room.saturating_sub(1));
        let more = picture.nodes.len() - lines.len();
        lines.push(Row::new(vec![Line::styled(format!("… and {more} more"), theme.dim())]));
    }
    frame.render_widget(Table::new(lines, widths).header(header).column_spacing(1), area);
}

fn keys(view: &View, theme: Theme) -> Line<'static> {
    if view.is_typing {
        return Line::styled("type to filter   Enter keep   Esc clear", theme.dim());
    }
    Line::styled("Tab rank by   s sort   r reverse   / filter   space pause   ? help   q quit", theme.dim())
}

fn help(frame: &mut Frame, area: Rect, theme: Theme) {
    let width = 76.min(area.width);
    let height = (KEYS.len() as u16 + 6).min(area.height);
    let [_, middle, _] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(height), Constraint::Fill(1)]).areas(area);
    let [_, inside, _] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(width), Constraint::Fill(1)])
            .areas(middle);
    let mut lines: Vec<_> = KEYS
        .iter()
        .map(|(keys, what)| {
            Line::from(vec![Span::styled(format!("{keys:<15}"), theme.bold()), Span::raw(*what)])
        })
        .collect();
    lines.push(Line::default());
    lines.push(Line::styled(
        "Commits are of this database, WAL of the whole server; - means unknown.",
        theme.dim(),
    ));
    let block =
        Block::bordered().border_type(BorderType::Rounded).title(" Keys ").padding(Padding::uniform(1));
    frame.render_widget(Clear, inside);
    frame.render_widget(Paragraph::new(lines).block(block), inside);
}
