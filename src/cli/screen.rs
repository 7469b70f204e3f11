//! A terminal that a live view takes over. The terminal is restored whatever happens.

use std::io::{self, Write};

use anstream::ColorChoice;
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate,
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute, queue};
use futures_util::StreamExt;

use crate::cli::exit::Failure;

/// The whole terminal. Dropping this restores the terminal.
pub(super) struct Screen {
    /// `None` if there is no keyboard, or no longer.
    keys: Option<EventStream>,
    coloured: bool,
}

/// An action of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Quit,
    Interrupt,
    Resize,
}

/// The size of the terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Screen {
    pub(super) fn open() -> Result<Self, Failure> {
        let keys = enable_raw_mode().is_ok().then(EventStream::new);
        let coloured = anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        // From here on, dropping `screen` restores the terminal.
        let screen = Self { keys, coloured };
        execute!(io::stdout(), EnterAlternateScreen, cursor::Hide, DisableLineWrap)?;
        Ok(screen)
    }

    pub(super) fn size() -> Size {
        let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
        Size { columns: columns.into(), rows: rows.into() }
    }

    /// Replaces the shown lines without a flicker.
    pub(super) fn draw(&mut self, lines: &[String]) -> Result<(), Failure> {
        let mut frame = Vec::new();
        queue!(frame, BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
        for (row, line) in lines.iter().take(Self::size().rows).enumerate() {
            if row > 0 {
                queue!(frame, cursor::MoveToNextLine(1))?;
            }
            match self.coloured {
                true => write!(frame, "{line}")?,
                false => write!(frame, "{}", anstream::adapter::strip_str(line))?,
            }
            queue!(frame, Clear(ClearType::UntilNewLine))?;
        }
        queue!(frame, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
        let mut stdout = io::stdout().lock();
        stdout.write_all(&frame)?;
        Ok(stdout.flush()?)
    }

    /// Whether lines have colours.
    pub(super) fn is_coloured(&self) -> bool {
        self.coloured
    }

    /// The next action of the user, for a view that only shows data until the user quits.
    pub(super) async fn input(&mut self) -> Input {
        loop {
            if let Some(input) = meaning(&self.event().await) {
                return input;
            }
        }
    }

    /// The next key, or the new size of the terminal.
    pub(super) async fn event(&mut self) -> Event {
        while let Some(keys) = &mut self.keys {
            match keys.next().await {
                Some(Ok(event)) => return event,
                // The keyboard is closed; signals still work.
                Some(Err(_)) | None => self.keys = None,
            }
        }
        std::future::pending().await
    }
}

fn meaning(event: &Event) -> Option<Input> {
    match event {
        Event::Resize(..) => Some(Input::Resize),
        Event::Key(KeyEvent { kind: KeyEventKind::Release, .. }) => None,
        Event::Key(KeyEvent { code: KeyCode::Char('c'), modifiers, .. })
            if modifiers.contains(KeyModifiers::CONTROL) =>
        {
            Some(Input::Interrupt)
        }
        Event::Key(KeyEvent { code: KeyCode::Char('q' | 'Q') | KeyCode::Esc, .. }) => Some(Input::Quit),
        _ => None,
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // An error means that the terminal is closed, so there is nothing to restore.
        execute!(io::stdout(), EnableLineWrap, cursor::Show, LeaveAlternateScreen).ok();
        disable_raw_mode().ok();
    }
}
