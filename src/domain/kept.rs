//! What is kept of a try beside how it ended: captured values, and what its steps came to. Bounded, secrets masked, and
//! never what a step stored, which may be a token.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::domain::names::{Names, name_of};
use crate::template::quote;

/// Bound on [`Kept::captured`], in bytes.
pub const CAPTURED_BYTES_MAX: usize = 4096;
/// Most captures are shorter.
const EXPECTED_BYTES: usize = 128;
/// Bound on [`StepNote::message`], in characters.
pub const NOTE_CHARS_MAX: usize = 200;

/// What is kept of one try.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The values of `response.capture` as a JSON object; empty: none.
    pub captured: Box<str>,
    /// What became of its steps, in the order written; those that had no turn are not there.
    pub steps: Vec<StepNote>,
    /// The flags of steps whose default was used.
    pub flags: Vec<Box<str>>,
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepNote {
    /// Its name.
    pub step: Box<str>,
    /// How it ended.
    pub end: StepEnd,
    /// The status it was answered with, if it was.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Why it was skipped or failed; empty else.
    pub message: Box<str>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepEnd {
    /// It was answered.
    Done,
    /// An earlier answer was used, with no request.
    Cached,
    /// It failed, and the last good value was used.
    LastGood,
    /// It failed, and the default was used.
    Default,
    /// Its `when` was false.
    Skipped,
    /// It failed, and the delivery went on without it.
    LeftOut,
    /// It failed, and the attempt with it.
    Failed,
}

impl StepEnd {
    /// Every end with its name.
    pub const NAMES: &'static Names<Self> = &[
        ("done", Self::Done),
        ("cached", Self::Cached),
        ("last_good", Self::LastGood),
        ("default", Self::Default),
        ("skipped", Self::Skipped),
        ("left_out", Self::LeftOut),
        ("failed", Self::Failed),
    ];

    /// The end's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_of(Self::NAMES, &self)
    }
}

impl Kept {
    /// Itself; `None` when there is nothing in it.
    #[must_use]
    pub fn if_any(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// Bytes of text in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let steps = self.steps.iter().map(|note| note.step.len() + note.message.len());
        let flags = self.flags.iter().map(|flag| flag.len());
        self.captured.len() + steps.chain(flags).sum::<usize>()
    }
}

/// Named values on their way into one JSON object of at most [`CAPTURED_BYTES_MAX`].
#[derive(Debug, Default)]
pub struct Captured<'n> {
    /// What there is of the object.
    json: String,
    /// The names, and where in it their values stand.
    values: SmallVec<[(&'n str, Range<usize>); 4]>,
    is_any: bool,
}

impl<'n> Captured<'n> {
    /// Adds what `write` appends, a JSON text, under `name`; null if it fails.
    pub fn put<E>(&mut self, name: &'n str, write: impl FnOnce(&mut String) -> Result<(), E>) {
        if self.json.is_empty() {
            self.json.reserve(EXPECTED_BYTES);
        }
        self.json.push(if self.json.is_empty() { '{' } else { ',' });
        quote(name, &mut self.json);
        self.json.push(':');
        let begin = self.json.len();
        if write(&mut self.json).is_err() {
            self.json.truncate(begin);
            self.json.push_str("null");
        }
        self.is_any |= self.json.get(begin..) != Some("null");
        self.values.push((name, begin..self.json.len()));
    }

    /// The object; empty when all values are null: nothing was found. A value that goes beyond the bound is replaced by
    /// its length, and what does not even fit then is left out.
    #[must_use]
    pub fn finish(mut self) -> String {
        if !self.is_any {
            return String::new();
        }
        self.json.push('}');
        match self.json.len() <= CAPTURED_BYTES_MAX {
            true => self.json,
            false => self.shortened(),
        }
    }

    fn shortened(&self) -> String {
        let mut text = String::from("{");
        for (name, at) in &self.values {
            let begin = text.len();
            let instead = format!("\"({} bytes)\"", at.len());
            for value in [self.json.get(at.clone()).unwrap_or_default(), &instead] {
                if begin > 1 {
                    text.push(',');
                }
                quote(name, &mut text);
                text.push(':');
                text.push_str(value);
                // The closing brace wants its place too.
                if text.len() < CAPTURED_BYTES_MAX {
                    break;
                }
                text.truncate(begin);
            }
        }
        text.push('}');
        text
    }
}

/// `text` on one line, cut to [`NOTE_CHARS_MAX`].
#[must_use]
pub fn note(text: &str) -> Box<str> {
    let line = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(NOTE_CHARS_MAX).map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use serde_json::{Value as Json, json};

    /// E3: captures are bounded JSON, whatever an answer holds.
    #[test]
    fn e3_captures_are_bounded_json() {
        let text = |values: Json| {
            let mut captured = Captured::default();
            for (name, value) in values.as_object().unwrap() {
                captured.put(name, |json| write!(json, "{value}"));
            }
            captured.finish()
        };
        assert_eq!(text(json!({ "id": 7, "name": "n" })), r#"{"id":7,"name":"n"}"#);
        assert_eq!(text(json!({ "id": null })), "");
        assert_eq!(text(json!({ "id": null, "n": 1 })), r#"{"id":null,"n":1}"#);
        let fits = "x".repeat(CAPTURED_BYTES_MAX - r#"{"id":""}"#.len());
        assert_eq!(
            text(json!({ "id": fits })).len(),
            CAPTURED_BYTES_MAX,
            "and is whole"
        );
        let long = "ü".repeat(3000);
        let parsed: Json = serde_json::from_str(&text(json!({ "long": long, "id": 7 }))).unwrap();
        assert_eq!(parsed, json!({ "long": "(6002 bytes)", "id": 7 }));
        let many: Json = (0..2000).map(|n| (format!("name-{n}"), json!("value"))).collect();
        let bounded = text(many);
        assert!(bounded.len() <= CAPTURED_BYTES_MAX && bounded.len() > CAPTURED_BYTES_MAX - 50);
        serde_json::from_str::<Json>(&bounded).unwrap();
    }
}
