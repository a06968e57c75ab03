//! A file as text: from byte offsets to lines and columns, and what of it may be shown to a person.
//! Any value may turn out to be a secret (in a header, a URL, or under a misspelt key), so a line is shown
//! with only the one value that a problem is about, and that one only where its key can't hold a secret.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Excerpt, Problem};

/// Longest piece of a file quoted in a message, in characters.
const QUOTE_CHARS_MAX: usize = 60;

/// The text of one file.
#[derive(PartialEq, Eq)]
pub(super) struct Source {
    /// The file, as it was named.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
    /// Where its values stand that are not arrays or tables, in order; none when it could not be parsed.
    scalars: Vec<Range<usize>>,
}

impl Source {
    /// The text of the file `path`, before anything is known about its values.
    pub(super) fn new(path: PathBuf, text: String) -> Self {
        Self {
            path,
            text,
            scalars: Vec::new(),
        }
    }

    /// Notes where the values of `document`, which was parsed from this text, stand.
    pub(super) fn with_values_of(mut self, document: &DeTable<'_>) -> Self {
        document
            .iter()
            .for_each(|(_, value)| collect_scalars(value, &mut self.scalars));
        self.scalars.sort_by_key(|span| span.start);
        self
    }

    /// Line and column of a byte offset, both counted from 1, columns in characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }

    /// The line on which `shown` begins, every other value in it replaced by `…` and comments cut off.
    fn excerpt(&self, place: &Range<usize>, may_show: bool) -> Option<Excerpt> {
        let before = self.text.get(..place.start)?;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[place.start..]
            .find('\n')
            .map_or(self.text.len(), |length| place.start + length);
        let mut line = ExcerptLine {
            text: String::new(),
            place_start: place.start,
            offset: None,
        };
        let mut at = start;
        for scalar in self.scalars.iter().filter(|s| s.start < end && s.end > start) {
            if line.push_plain(self.text.get(at..scalar.start.max(at))?, at) {
                return Some(line.finish(1));
            }
            let is_offender = may_show && *scalar == *place && scalar.end <= end;
            line.push(
                if is_offender {
                    self.text.get(scalar.clone())?
                } else {
                    "…"
                },
                scalar.start,
            );
            at = scalar.end.min(end);
        }
        line.push_plain(self.text.get(at..end)?, at);
        let is_scalar = self.scalars.contains(place);
        let width = self.text.get(place.start..place.end.min(end))?.chars().count();
        Some(line.finish(if is_scalar && !may_show { 1 } else { width }))
    }
}

/// An excerpt being put together.
struct ExcerptLine {
    text: String,
    place_start: usize,
    offset: Option<usize>,
}

impl ExcerptLine {
    /// Appends a piece that began at the byte `at` of the file.
    fn push(&mut self, piece: &str, at: usize) {
        if at == self.place_start {
            self.offset = Some(self.text.chars().count());
        }
        self.text.push_str(piece);
    }

    /// Appends what stands between values, up to a comment; true when there was one.
    fn push_plain(&mut self, piece: &str, at: usize) -> bool {
        let kept = piece.split('#').next().unwrap_or_default();
        if (at..at + kept.len()).contains(&self.place_start)
            && let Some(before) = kept.get(..self.place_start - at)
        {
            self.offset = Some(self.text.chars().count() + before.chars().count());
        }
        self.text.push_str(kept);
        kept.len() < piece.len()
    }

    fn finish(self, width: usize) -> Excerpt {
        let text = self.text.trim_end().to_owned();
        let room = text.chars().count().saturating_sub(self.offset.unwrap_or(0));
        Excerpt {
            offset: self.offset.unwrap_or(0),
            width: width.clamp(1, room.max(1)),
            text,
        }
    }
}

/// The spans of all values inside `value` that are neither tables nor arrays.
fn collect_scalars(value: &Spanned<DeValue<'_>>, found: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Array(items) => items.iter().for_each(|item| collect_scalars(item, found)),
        DeValue::Table(entries) => entries.iter().for_each(|(_, item)| collect_scalars(item, found)),
        _ => found.push(value.span()),
    }
}

/// Where something was written.
#[derive(Clone)]
pub(super) struct Place {
    /// In which file.
    pub source: Arc<Source>,
    /// Which bytes of it.
    pub span: Range<usize>,
    /// Dotted path of the key.
    pub key: String,
    /// What stands here may be a secret: never quote it.
    pub private: bool,
}

impl Place {
    /// The text that stands here, as written, for a message; a stand-in when it may be a secret or is long.
    pub(super) fn quoted(&self) -> String {
        let written = self.source.text.get(self.span.clone()).unwrap_or_default();
        if self.private || !self.source.scalars.contains(&self.span) {
            return "the value".to_owned();
        }
        let line = written.lines().next().unwrap_or_default();
        if line.len() == written.len() && line.chars().count() <= QUOTE_CHARS_MAX {
            return line.to_owned();
        }
        format!("{}…", line.chars().take(QUOTE_CHARS_MAX).collect::<String>())
    }

    /// Whether this was written for all endpoints and not for one.
    pub(super) fn is_of_defaults(&self) -> bool {
        self.key.starts_with("defaults.")
    }

    /// A problem at this place.
    pub(super) fn problem(&self, message: impl Into<String>, help: impl Into<String>) -> Problem {
        let (line, column) = self.source.position(self.span.start);
        Problem {
            file: self.source.path.clone(),
            line,
            column,
            key: self.key.clone(),
            message: message.into(),
            help: help.into(),
            excerpt: self.source.excerpt(&self.span, !self.private),
        }
    }

    /// `file:line:column`, to name this place in another's problem.
    pub(super) fn location(&self) -> String {
        let (line, column) = self.source.position(self.span.start);
        format!("{}:{line}:{column}", self.source.path.display())
    }
}

/// A syntax error. Its line is not shown: as long as it can't be parsed, nobody knows what of it is a value.
pub(super) fn syntax_problem(path: PathBuf, text: &str, error: &toml::de::Error) -> Problem {
    let source = Source::new(path, text.to_owned());
    let (line, column) = source.position(error.span().map_or(0, |span| span.start));
    Problem {
        file: source.path,
        line,
        column,
        key: String::new(),
        message: format!("not valid TOML: {}", error.message()),
        help: "strings, durations and sizes stand in quotes: timeout = \"30s\"".to_owned(),
        excerpt: None,
    }
}
