//! A line to events, a control line or a refusal. Pure; it refuses to know sockets, clocks and stores: what
//! depends on the time or on the sender is filled in by [`super::build`].
//!
//! The rules are those of the CloudEvents 1.0 JSON format and of the ingest protocol: one pass over an
//! object, `data` neither decoded nor changed, every message with what is wrong and how to mend it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::attributes::{self, Attributes};
use super::lines::Limits;
use crate::domain::time::Timestamp;

/// Members of one event; CloudEvents has ten attributes, so this leaves room for extensions.
const MEMBERS_MAX: usize = 64;
/// Events in one batch, so that a line of tiny events can't take more memory than its bytes suggest.
const BATCH_EVENTS_MAX: usize = 10_000;
/// Values inside values. Readers of JSON stop at about 128, and an event is read again by its receivers.
const DEPTH_MAX: usize = 64;

/// Why something is refused; the names are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The line is not JSON.
    InvalidJson,
    /// It is JSON, but not an event.
    InvalidEvent,
    /// It is longer than allowed.
    TooLarge,
    /// This sender may not send events of this type.
    Forbidden,
    /// It may, but not so fast.
    RateLimited,
    /// The store has reached its size.
    QueueFull,
    /// The file system is nearly full.
    DiskFull,
    /// The store has failed.
    Unhealthy,
    /// The daemon is stopping.
    ShuttingDown,
}

impl Code {
    /// Every code, in the order of their counters.
    pub const ALL: [Self; 9] = [
        Self::InvalidJson,
        Self::InvalidEvent,
        Self::TooLarge,
        Self::Forbidden,
        Self::RateLimited,
        Self::QueueFull,
        Self::DiskFull,
        Self::Unhealthy,
        Self::ShuttingDown,
    ];

    /// The code as it stands in an answer.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::InvalidEvent => "invalid_event",
            Self::TooLarge => "too_large",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::QueueFull => "queue_full",
            Self::DiskFull => "disk_full",
            Self::Unhealthy => "unhealthy",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// The code that stands in an answer as `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// After how many milliseconds trying again can help, where nothing better is known; `None`: the same line
    /// will never be taken.
    #[must_use]
    pub fn retry_after_ms(self) -> Option<u64> {
        match self {
            Self::InvalidJson | Self::InvalidEvent | Self::TooLarge | Self::Forbidden => None,
            Self::RateLimited => Some(1000),
            Self::QueueFull | Self::DiskFull => Some(5000),
            Self::Unhealthy | Self::ShuttingDown => Some(1000),
        }
    }
}

/// A line, or an event, that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which kind of refusal.
    pub code: Code,
    /// What is wrong and how to mend it.
    pub message: String,
    /// The event's id, if the line gave one.
    pub id: Option<Box<str>>,
    /// After how many milliseconds trying again can help; `None`: never.
    pub retry_after_ms: Option<u64>,
}

impl Refused {
    /// A refusal that names no event.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            id: None,
            retry_after_ms: code.retry_after_ms(),
        }
    }

    /// The same about the event with this id, if it gave one.
    #[must_use]
    pub fn about(self, id: Option<&str>) -> Self {
        Self {
            id: id.map(Into::into),
            ..self
        }
    }

    /// The refusal of a line, or of one event of a batch, that is longer than `bytes_max`.
    #[must_use]
    pub fn too_long(what: &str, bytes_max: usize) -> Self {
        Self::new(
            Code::TooLarge,
            format!(
                "{what} is longer than {bytes_max} bytes; raise ingest.max_event (for an array ingest.max_batch), \
                 send fewer events a line, or send a link to the payload"
            ),
        )
    }
}

/// Which answers a producer wants from here on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// One for each line.
    #[default]
    Each,
    /// None.
    None,
    /// Those of rejected lines.
    Errors,
}

impl Ack {
    /// The mode as it stands in a control line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::None => "none",
            Self::Errors => "errors",
        }
    }
}

/// When an event wants to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timing {
    /// At once.
    #[default]
    Now,
    /// So long after it was accepted (`delay`).
    After(std::time::Duration),
    /// Not before this instant (`deliverat`).
    At(Timestamp),
}

/// One event as its producer wrote it, checked; what it borrows is the line.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed<'a> {
    /// The object from `{` to `}`, byte for byte.
    pub json: &'a str,
    /// What was read of it.
    pub attributes: Attributes<'a>,
}

/// What a line turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Line<'a> {
    /// One event.
    Event(Box<Parsed<'a>>),
    /// Events that are accepted together or not at all; at least one.
    Batch(Vec<Parsed<'a>>),
    /// A control line.
    Control(Ack),
    /// Not to be taken.
    Refused(Refused),
}

/// Reads one line that is not blank and within its bound.
#[must_use]
pub fn judge<'a>(line: &'a [u8], limits: &Limits) -> Line<'a> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            return Line::Refused(Refused::new(
                Code::InvalidJson,
                format!("the line is not UTF-8 from byte {} on", error.valid_up_to() + 1),
            ));
        }
    };
    let judged = match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => judge_object(text, limits),
        Some(b'[') => judge_array(text, limits),
        _ => Err(judge_neither(text)),
    };
    judged.unwrap_or_else(Line::Refused)
}

fn judge_object<'a>(text: &'a str, limits: &Limits) -> Result<Line<'a>, Refused> {
    if text.len() > limits.event_bytes_max {
        return Err(Refused::too_long("the event", limits.event_bytes_max));
    }
    let members = Members::read(text)?;
    if members.kind().is_none()
        && members.problem.is_none()
        && let Some(ack) = members.extension("ack")
    {
        return control(ack).map(Line::Control);
    }
    let parsed = check(&members, text.trim_ascii())?;
    Ok(Line::Event(Box::new(parsed)))
}

fn control(ack: &RawValue) -> Result<Ack, Refused> {
    [Ack::Each, Ack::None, Ack::Errors]
        .into_iter()
        .find(|mode| attributes::text(ack).as_deref() == Some(mode.name()))
        .ok_or_else(|| {
            Refused::new(
                Code::InvalidEvent,
                "`ack` is \"each\", \"none\" or \"errors\"; an event needs a `type`",
            )
        })
}

fn judge_array<'a>(text: &'a str, limits: &Limits) -> Result<Line<'a>, Refused> {
    let items = Items::read(text)?;
    let count = items.len();
    if count == 0 {
        return Err(Refused::new(
            Code::InvalidEvent,
            "the batch is empty; put at least one event in it",
        ));
    }
    let mut batch = Vec::with_capacity(count);
    for (index, item) in items.into_iter().enumerate() {
        let parsed = judge_item(item, limits).map_err(|refused| Refused {
            message: format!("event {} of {count}: {}", index + 1, refused.message),
            ..refused
        })?;
        batch.push(parsed);
    }
    Ok(Line::Batch(batch))
}

fn judge_item<'a>(item: &'a RawValue, limits: &Limits) -> Result<Parsed<'a>, Refused> {
    let json = item.get();
    if json.len() > limits.event_bytes_max {
        return Err(Refused::too_long("it", limits.event_bytes_max));
    }
    if !json.starts_with('{') {
        return Err(Refused::new(
            Code::InvalidEvent,
            "it is not an object; a batch holds events, [{\"type\":…},{\"type\":…}]",
        ));
    }
    check(&Members::read(json)?, json)
}

/// A line that is neither an object nor an array: another JSON value, or no JSON.
fn judge_neither(text: &str) -> Refused {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => Refused::new(
            Code::InvalidEvent,
            "an event is an object, {\"type\":\"contact.created\",\"data\":{…}}, and a batch an array of them",
        ),
        Err(error) => not_json(&error),
    }
}

/// Checks what stands in an object. A refusal names the event's id if that at least is sound.
fn check<'a>(members: &Members<'a>, json: &'a str) -> Result<Parsed<'a>, Refused> {
    match attributes::check(members) {
        Ok(attributes) => Ok(Parsed { json, attributes }),
        Err(message) => {
            let refused = Refused::new(Code::InvalidEvent, message);
            Err(refused.about(attributes::id(members).as_deref()))
        }
    }
}

/// A sentence on why a text is not JSON. The line number that serde_json gives is always 1 here, and means
/// something else to a reader of the answer.
fn not_json(error: &serde_json::Error) -> Refused {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    let hint = match what {
        "trailing characters" => "; end each event with a newline",
        _ => "",
    };
    Refused::new(
        Code::InvalidJson,
        format!("not JSON: {what} at column {}{hint}", error.column()),
    )
}

/// The members of an object, as they stand in it.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    known: [Option<&'a RawValue>; attributes::KNOWN.len()],
    extensions: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// The first thing that is wrong with the names; the rest is read all the same, for the id.
    pub(super) problem: Option<String>,
}

impl<'a> Members<'a> {
    fn read(json: &'a str) -> Result<Self, Refused> {
        let mut source = serde_json::Deserializer::from_str(json);
        let mut members = Self::default();
        source
            .deserialize_map(MembersVisitor(&mut members))
            .and_then(|()| source.end())
            .map_err(|error| not_json(&error))?;
        Ok(members)
    }

    /// The value of a known attribute, by its place in [`attributes::KNOWN`]; `null` is absent, as
    /// CloudEvents JSON format 2.2 has it.
    pub(super) fn get(&self, known: usize) -> Option<&'a RawValue> {
        self.known[known].filter(|raw| raw.get() != "null")
    }

    /// The same, but a `null` is a value.
    pub(super) fn get_or_null(&self, known: usize) -> Option<&'a RawValue> {
        self.known[known]
    }

    fn kind(&self) -> Option<&'a RawValue> {
        self.known[attributes::TYPE]
    }

    fn extension(&self, name: &str) -> Option<&'a RawValue> {
        self.extensions
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, raw)| *raw)
    }

    /// Attributes posthaste has no meaning for.
    pub(super) fn extensions(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.extensions.iter().map(|(name, raw)| (&**name, *raw))
    }

    fn take(&mut self, name: Cow<'a, str>, raw: &'a RawValue) {
        let problem = match attributes::known(&name) {
            Some(place) if self.known[place].is_none() => {
                self.known[place] = Some(raw);
                return;
            }
            None if self.extension(&name).is_none() => {
                let problem = attributes::name_problem(&name);
                // Past a problem nothing more is kept, so that looking for doubles stays cheap.
                if self.extensions.len() < MEMBERS_MAX && self.problem.is_none() {
                    self.extensions.push((name, raw));
                    problem
                } else {
                    Some(format!(
                        "an event has at most {MEMBERS_MAX} extension attributes; put the rest into `data`"
                    ))
                }
            }
            _ => Some(format!(
                "`{}` stands there twice; keep one",
                attributes::excerpt(&name)
            )),
        };
        if self.problem.is_none() {
            self.problem = problem;
        }
    }
}

/// A member's name; borrowed unless it is written with escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Puts what it reads where it stays: it is large, and would be moved from hand to hand.
struct MembersVisitor<'m, 'de>(&'m mut Members<'de>);

impl<'de> Visitor<'de> for MembersVisitor<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            self.0.take(name, map.next_value()?);
        }
        Ok(())
    }
}

/// Reads the elements of an array, and stops when there are too many.
struct Items {
    too_many: bool,
}

impl Items {
    fn read(text: &str) -> Result<Vec<&RawValue>, Refused> {
        let mut source = serde_json::Deserializer::from_str(text);
        let mut seed = Self { too_many: false };
        let items = seed.deserialize(&mut source);
        if seed.too_many {
            return Err(Refused::new(
                Code::TooLarge,
                format!("a batch holds at most {BATCH_EVENTS_MAX} events; send several lines"),
            ));
        }
        let items = items.map_err(|error| not_json(&error))?;
        source.end().map_err(|error| not_json(&error))?;
        Ok(items)
    }
}

impl<'de> DeserializeSeed<'de> for &mut Items {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == BATCH_EVENTS_MAX {
                self.too_many = true;
                break;
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// Whether `json`, which is sound, nests deeper than is taken. Most values have so few brackets that
/// counting them settles it.
pub(super) fn is_too_deep(json: &str) -> bool {
    let brackets = memchr::memchr2_iter(b'{', b'[', json.as_bytes());
    if brackets.take(DEPTH_MAX + 1).count() <= DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
