//! What is kept of a try beside how it ended: captured values, and what its steps came to. Bounded, secrets masked, and
//! never what a step stored, which may be a token.

use serde::{Deserialize, Serialize};

use crate::template::quote;

/// Bound on [`Kept::captured`], in bytes.
pub const CAPTURED_BYTES_MAX: usize = 4096;
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
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Done, "done"),
        (Self::Cached, "cached"),
        (Self::LastGood, "last_good"),
        (Self::Default, "default"),
        (Self::Skipped, "skipped"),
        (Self::LeftOut, "left_out"),
        (Self::Failed, "failed"),
    ];

    /// The end's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(end, _)| *end == self);
        named.map_or("", |(_, name)| name)
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

/// Named `values`, each a JSON text, as one JSON object of at most [`CAPTURED_BYTES_MAX`]: a value that goes beyond it is
/// replaced by its length, and what does not even fit then is left out. Empty when all are null: nothing was found.
#[must_use]
pub fn captured_text(values: &[(&str, String)]) -> String {
    if values.iter().all(|(_, value)| value == "null") {
        return String::new();
    }
    let mut whole = String::new();
    for (name, value) in values {
        whole.push(if whole.is_empty() { '{' } else { ',' });
        member(name, value, &mut whole);
    }
    whole.push('}');
    match whole.len() <= CAPTURED_BYTES_MAX {
        true => whole,
        false => shortened(values),
    }
}

fn member(name: &str, value: &str, json: &mut String) {
    quote(name, json);
    json.push(':');
    json.push_str(value);
}

fn shortened(values: &[(&str, String)]) -> String {
    let mut text = String::from("{");
    for (name, value) in values {
        let begin = text.len();
        let instead = format!("\"({} bytes)\"", value.len());
        for value in [value, &instead] {
            if begin > 1 {
                text.push(',');
            }
            member(name, value, &mut text);
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

/// `text` on one line, cut to [`NOTE_CHARS_MAX`].
#[must_use]
pub fn note(text: &str) -> Box<str> {
    let line = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(NOTE_CHARS_MAX).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value as Json, json};

    /// E3: captures are bounded JSON, whatever an answer holds.
    #[test]
    fn e3_captures_are_bounded_json() {
        let text = |values: Json| {
            let values = values.as_object().unwrap().iter();
            let values: Vec<_> = values.map(|(name, value)| (&**name, value.to_string())).collect();
            captured_text(&values)
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
