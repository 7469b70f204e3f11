//! The state of the view, and the keys that change it.

use clap::ValueEnum;
use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::cli::traffic::By;

/// The maximum length of a filter, in characters.
const FILTER: usize = 60;

/// The order of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(in crate::cli) enum Sort {
    /// Most messages a second first
    #[default]
    Rate,
    /// Most bytes a second first
    Bytes,
    /// Most messages in ten minutes first
    Count,
    /// By name
    Name,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Rate => Self::Bytes,
            Self::Bytes => Self::Count,
            Self::Count => Self::Name,
            Self::Name => Self::Rate,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Bytes => "bytes",
            Self::Count => "count",
            Self::Name => "name",
        }
    }
}

/// The effect of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Quit,
    Interrupt,
    /// The key was handled, and the picture has to be drawn again.
    Taken,
}

/// The choices of the user.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) by: By,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) is_typing: bool,
    pub(super) is_paused: bool,
    pub(super) has_help: bool,
    /// The number of rows above the first shown row.
    pub(super) scrolled: usize,
    /// The number of rows that fit on the screen, as of the last draw.
    pub(super) page: usize,
    pub(super) is_coloured: bool,
}

impl View {
    pub(super) fn new(by: By, sort: Sort, is_coloured: bool) -> Self {
        Self {
            by,
            sort,
            is_reversed: false,
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            has_help: false,
            scrolled: 0,
            page: 1,
            is_coloured,
        }
    }

    /// Handles a key.
    pub(super) fn input(&mut self, event: &Event) -> Input {
        let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return Input::Taken };
        if *kind == KeyEventKind::Release {
            return Input::Taken;
        }
        if *code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL) {
            return Input::Interrupt;
        }
        if self.is_typing {
            self.type_into_filter(*code);
            return Input::Taken;
        }
        match code {
            KeyCode::Char('q' | 'Q') => return Input::Quit,
            // Esc closes the help first, then the filter, then the view.
            KeyCode::Esc if self.has_help => self.has_help = false,
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc => return Input::Quit,
            KeyCode::Char('?' | 'h') => self.has_help = !self.has_help,
            KeyCode::Char(' ' | 'p') => self.is_paused = !self.is_paused,
            KeyCode::Tab => self.rank(1),
            KeyCode::BackTab => self.rank(By::ALL.len() - 1),
            KeyCode::Char('1') => self.by = By::Event,
            KeyCode::Char('2') => self.by = By::Room,
            KeyCode::Char('3') => self.by = By::Sender,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scrolled += 1,
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(self.page),
            KeyCode::PageDown => self.scrolled += self.page,
            KeyCode::Home => self.scrolled = 0,
            KeyCode::End => self.scrolled = usize::MAX / 2,
            _ => {}
        }
        Input::Taken
    }

    fn rank(&mut self, steps: usize) {
        let place = By::ALL.iter().position(|by| *by == self.by).unwrap_or_default();
        self.by = By::ALL[(place + steps) % By::ALL.len()];
        self.scrolled = 0;
    }

    fn type_into_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if self.filter.chars().count() < FILTER => self.filter.push(c),
            _ => {}
        }
        self.scrolled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(view: &mut View, code: KeyCode) -> Input {
        view.input(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    #[test]
    fn keys_in_a_filter_are_text() {
        let mut view = View::new(By::Event, Sort::Rate, true);
        for code in [KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Char('?'), KeyCode::Char('x')] {
            assert_eq!(press(&mut view, code), Input::Taken);
        }
        press(&mut view, KeyCode::Backspace);
        press(&mut view, KeyCode::Enter);
        assert_eq!((view.filter.as_str(), view.is_typing), ("q?", false));
        assert_eq!(press(&mut view, KeyCode::Esc), Input::Taken);
        assert_eq!(view.filter, "");
        assert_eq!(press(&mut view, KeyCode::Esc), Input::Quit);
        let interrupt = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        view.is_typing = true;
        assert_eq!(view.input(&interrupt), Input::Interrupt);
    }

    #[test]
    fn keys_change_what_is_shown() {
        let mut view = View::new(By::Event, Sort::Rate, true);
        press(&mut view, KeyCode::Tab);
        assert_eq!(view.by, By::Room);
        press(&mut view, KeyCode::BackTab);
        press(&mut view, KeyCode::BackTab);
        assert_eq!(view.by, By::Sender);
        press(&mut view, KeyCode::Char('1'));
        press(&mut view, KeyCode::Char('s'));
        press(&mut view, KeyCode::Char('r'));
        press(&mut view, KeyCode::Char(' '));
        press(&mut view, KeyCode::Down);
        assert_eq!((view.by, view.sort, view.scrolled), (By::Event, Sort::Bytes, 1));
        assert!(view.is_reversed && view.is_paused);
        press(&mut view, KeyCode::Char('?'));
        assert!(view.has_help);
        assert_eq!(press(&mut view, KeyCode::Esc), Input::Taken);
        assert!(!view.has_help);
        assert_eq!(press(&mut view, KeyCode::Char('q')), Input::Quit);
    }
}
