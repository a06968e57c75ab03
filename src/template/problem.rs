//! What is wrong with a template or an expression: where in its text, in one sentence, and how to mend it. Knows no
//! files and no keys; whoever read the text adds those.

use std::fmt;

use minijinja::{Error, ErrorKind};

use super::REFERENCES;

/// So much of a tag is shown.
const TAG_CHARS_MAX: usize = 80;

/// Something wrong in the text of a template or an expression, found when it was compiled or when it was rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Line within the text, from 1; `None` when the place is not known.
    pub line: Option<u32>,
    /// Column within the line, in characters from 1.
    pub column: Option<u32>,
    /// The tag that it stands in, as written, or its beginning; `None`: it stands in none. Holds no secrets, because
    /// what references of the configuration stand for can't stand in tags.
    pub tag: Option<Box<str>>,
    /// One sentence without a full stop.
    pub says: String,
    /// What to do about it; may be empty.
    pub help: String,
}

/// A [`Problem`] met while rendering: it may be the event's fault, and hits that one delivery.
pub type RenderError = Problem;

impl Problem {
    /// A problem without a place.
    #[must_use]
    pub fn new(says: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            says: says.into(),
            help: help.into(),
            ..Self::default()
        }
    }

    /// The same, at the byte `offset` of `source`.
    #[must_use]
    pub(super) fn at(mut self, source: &str, offset: usize) -> Self {
        let before = source.get(..offset).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let number = |count: usize| u32::try_from(count + 1).ok();
        self.line = number(before.matches('\n').count());
        self.column = number(before[line_start..].chars().count());
        self.tag = tag_at(source, before.len());
        self
    }

    /// What the engine found wrong in `source`.
    pub(super) fn from_engine(error: &Error, source: &str) -> Self {
        let problem = match error.kind() {
            ErrorKind::UndefinedError => Self::new(
                error.detail().unwrap_or("a value is undefined"),
                "where it may be missing, write `name or 'another'` or `name|default('')`",
            ),
            ErrorKind::OutOfFuel => Self::new(
                "it takes more steps than one rendering may take",
                "loop over less, or send large events as they are",
            ),
            ErrorKind::SyntaxError => Self::new(
                format!("it can't be read: {}", error.detail().unwrap_or("syntax error")),
                dialect_help(source),
            ),
            ErrorKind::WriteFailure => Self::new(innermost(error), ""),
            kind => Self::new(error.detail().map_or_else(|| kind.to_string(), str::to_owned), ""),
        };
        match (error.range(), error.line()) {
            (Some(range), _) => problem.at(source, range.start),
            (None, line) => Self {
                line: line.and_then(|line| u32::try_from(line).ok()),
                ..problem
            },
        }
    }
}

/// The tag around the byte `offset` of `source`.
fn tag_at(source: &str, offset: usize) -> Option<Box<str>> {
    let before = source.get(..offset)?;
    let begin = before.rfind("{{").max(before.rfind("{%"))?;
    let tag = source.get(begin..)?;
    let ends = ["}}", "%}"].iter().filter_map(|end| tag.find(end));
    let end = ends.min().map_or(tag.len(), |end| end + 2);
    let is_around = begin + end > offset && !tag[..end].contains(REFERENCES);
    let tag = tag[..end].trim_end();
    is_around.then(|| match tag.char_indices().nth(TAG_CHARS_MAX) {
        None => tag.into(),
        Some((cut, _)) => format!("{}…", &tag[..cut]).into(),
    })
}

fn innermost(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Users bring other template languages with them; the ones seen most get a word of advice.
fn dialect_help(source: &str) -> &'static str {
    for (theirs, ours) in [
        (
            "{{#each",
            "loops are written {% for x in data.list %} … {% endfor %}",
        ),
        ("{{#if", "conditions are written {% if … %} … {% endif %}"),
        ("||", "write `or` instead of ||"),
        ("&&", "write `and` instead of &&"),
        ("===", "write == instead of ==="),
        ("!==", "write != instead of !=="),
        ("? ", "a choice is written `this if condition else that`"),
        (
            "=>",
            "filters do what functions do elsewhere: data.list|map(attribute='id')",
        ),
    ] {
        if source.contains(theirs) {
            return ours;
        }
    }
    "see docs/INTEGRATIONS.md for the language"
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, "line {line}, column {column}: ")?,
            (Some(line), None) => write!(f, "line {line}: ")?,
            _ => {}
        }
        f.write_str(&self.says)?;
        if !self.help.is_empty() {
            write!(f, "; {}", self.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
