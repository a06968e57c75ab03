//! How things are shown to people and to programs: tables, ages, colors, JSON lines. Knows no verb.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;

use super::failure::{Done, Failure};
use crate::control::units::duration_text;
use crate::domain::time::Timestamp;

/// Writes a text and the end of its line to standard output.
///
/// # Errors
/// [`Failure::OutputClosed`] when nobody reads any more, [`Failure::Wrong`] when the output is full.
pub fn line(text: &str) -> Done {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Wrong(format!("cannot write the output: {error}")),
        })
}

/// Writes a value as one line of JSON.
///
/// # Errors
/// Those of [`line()`].
pub fn json_line(value: &impl Serialize) -> Done {
    let text = serde_json::to_string(value).map_err(|error| Failure::Wrong(error.to_string()))?;
    line(&text)
}

/// A color of a word that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Something is wrong.
    Red,
    /// Something waits.
    Yellow,
    /// All is well.
    Green,
    /// Less important.
    Dim,
}

/// Puts colors around texts, or leaves them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint {
    /// Whether it does.
    pub colors: bool,
}

impl Paint {
    /// Colors on a terminal, unless `NO_COLOR` is set (no-color.org).
    #[must_use]
    pub fn for_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colors: io::stdout().is_terminal() && !refused,
        }
    }

    /// `text` in `color`.
    #[must_use]
    pub fn paint(self, text: &str, color: Color) -> String {
        if !self.colors {
            return text.to_owned();
        }
        let code = match color {
            Color::Red => 31,
            Color::Yellow => 33,
            Color::Green => 32,
            Color::Dim => 2,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Text, to the left.
    Text(&'static str),
    /// A number, to the right.
    Number(&'static str),
}

/// A table without lines: a header and rows. Control characters in cells are made visible.
#[must_use]
pub fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    // Padded by hand, because styling belongs to `Paint` alone.
    table.load_style(NOTHING).force_no_tty();
    table.set_header(columns.iter().map(|column| match column {
        Column::Text(name) | Column::Number(name) => Cell::new(name),
    }));
    for row in rows {
        table.add_row(row.iter().map(|text| Cell::new(printable(text))));
    }
    for (column, kind) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if matches!(kind, Column::Number(_)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// `text` with control characters shown as escapes: what an endpoint answers must not steer the terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = (c.is_control() && c != '\n' && c != '\t').then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// How long ago `earlier` was at `now`, in its two largest units, at least whole seconds: `3m12s`.
#[must_use]
pub fn age(now: Timestamp, earlier: Timestamp) -> String {
    duration_text(Duration::from_secs(now.since(earlier).as_secs()))
}

/// [`age`], or `-` when there is no instant.
#[must_use]
pub fn age_or_dash(now: Timestamp, earlier: Option<Timestamp>) -> String {
    earlier.map_or("-".to_owned(), |earlier| age(now, earlier))
}

/// A value, or `-`.
#[must_use]
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

/// `1 dead letter`, `2 dead letters`.
#[must_use]
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Asks a question on the terminal; anything but yes is no.
///
/// # Errors
/// [`Failure::Usage`] where nobody can be asked.
pub fn ask(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{question} Nobody can be asked here; add --yes"
        )));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::Usage(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_without_trailing_blanks() {
        let columns = [Column::Text("NAME"), Column::Number("DEAD"), Column::Text("WHY")];
        let rows = [
            vec!["crm".to_owned(), "7".to_owned(), "it failed".to_owned()],
            vec!["billing-long".to_owned(), "12345".to_owned(), String::new()],
        ];
        let expected = [
            "NAME           DEAD  WHY",
            "crm               7  it failed",
            "billing-long  12345",
        ];
        assert_eq!(table(&columns, rows).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn ages_read_well() {
        for (ms, expected) in [
            (0, "0s"),
            (999, "0s"),
            (192_500, "3m12s"),
            (3_600_000, "1h"),
            (90_061_000, "1d1h"),
        ] {
            assert_eq!(age(Timestamp(ms), Timestamp(0)), expected);
        }
        assert_eq!(age(Timestamp(5), Timestamp(9)), "0s");
    }

    #[test]
    fn an_answer_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\td\u{7}"), "a\\u{1b}[2Jb\nc\td\\u{7}");
    }

    #[test]
    fn paint_is_only_paint() {
        assert_eq!(Paint { colors: false }.paint("x", Color::Red), "x");
        assert_eq!(Paint { colors: true }.paint("x", Color::Red), "\x1b[31mx\x1b[0m");
    }
}
