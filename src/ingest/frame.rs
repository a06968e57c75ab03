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
    pub const ALL: [Self; 7] = [
        Self::InvalidJson,
        Self::InvalidEvent,
        Self::TooLarge,
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
            Self::QueueFull => "queue_full",
            Self::DiskFull => "disk_full",
            Self::Unhealthy => "unhealthy",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// After how many milliseconds trying again can help; `None`: the same line will never be taken.
    #[must_use]
    pub fn retry_after_ms(self) -> Option<u64> {
        match self {
            Self::InvalidJson | Self::InvalidEvent | Self::TooLarge => None,
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
}

impl Refused {
    /// A refusal that names no event.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            id: None,
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
    let parsed = check(members, text.trim_ascii())?;
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
    check(Members::read(json)?, json)
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
fn check<'a>(members: Members<'a>, json: &'a str) -> Result<Parsed<'a>, Refused> {
    match attributes::check(&members) {
        Ok(attributes) => Ok(Parsed { json, attributes }),
        Err(message) => Err(Refused {
            code: Code::InvalidEvent,
            message,
            id: attributes::id(&members).map(Into::into),
        }),
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
        let members = source
            .deserialize_map(MembersVisitor)
            .map_err(|error| not_json(&error))?;
        source.end().map_err(|error| not_json(&error))?;
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

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Members::default();
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            members.take(name, map.next_value()?);
        }
        Ok(members)
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        event_bytes_max: 600,
        batch_bytes_max: 1 << 20,
    };

    fn refused(line: &[u8]) -> Refused {
        match judge(line, &LIMITS) {
            Line::Refused(refused) => refused,
            other => panic!("{} was taken: {other:?}", String::from_utf8_lossy(line)),
        }
    }

    /// A3: what an event may look like; extensions are kept, escapes are understood, `null` is absent.
    #[test]
    fn a3_events_are_read() {
        for (line, kind, id) in [
            (r#"{"type":"contact.created"}"#, "contact.created", None),
            (r#"  {"type":"a","id":"1"} "#, "a", Some("1")),
            (r#"{"\u0074ype":"\u0061","id":"\"q\""}"#, "a", Some("\"q\"")),
            (
                r#"{"type":"a","subject":null,"data":null,"delay":null}"#,
                "a",
                None,
            ),
            (
                r#"{"type":"a","shard":7,"urgent":true,"x9":"y","empty":null}"#,
                "a",
                None,
            ),
            (
                r#"{"type":"ü","data_base64":"aGk=","time":"2026-01-15t10:30:00.5+01:00"}"#,
                "ü",
                None,
            ),
            (
                r#"{"type":"a","data_base64":"\/\/8=","specversion":"1.0"}"#,
                "a",
                None,
            ),
            (
                r#"{"type":"a","data":{"type":1,"type":2,"x":"[[[[ \" {{"}}"#,
                "a",
                None,
            ),
            (r#"{"type":"a","ack":"none"}"#, "a", None),
            (
                r#"{"type":"a","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#,
                "a",
                None,
            ),
        ] {
            let Line::Event(parsed) = judge(line.as_bytes(), &LIMITS) else {
                panic!("{line}: {:?}", judge(line.as_bytes(), &LIMITS));
            };
            assert_eq!(parsed.json, line.trim());
            assert_eq!(parsed.attributes.kind, kind, "{line}");
            assert_eq!(parsed.attributes.id.as_deref(), id, "{line}");
        }
    }

    /// A8: what is not an event is refused with what is wrong and how to mend it.
    #[test]
    fn a8_invalid_events_say_what_to_mend() {
        for (line, message) in [
            (r#"{}"#, "`type` is missing"),
            (r#"{"type":null}"#, "`type` is missing"),
            (r#"{"type":""}"#, "`type` is empty"),
            (r#"{"type":7}"#, "`type` is not a text"),
            (r#"{"type":"a\u0007"}"#, "control character"),
            (r#"{"type":"\ud800"}"#, "not a text"),
            (r#"{"type":"a","id":""}"#, "`id` is empty"),
            (r#"{"type":"a","id":null}"#, "`id` is null"),
            (r#"{"type":"a","specversion":"0.3"}"#, "not \"1.0\""),
            (r#"{"type":"a","time":"2026-01-15"}"#, "RFC 3339"),
            (r#"{"type":"a","time":"2026-02-30T00:00:00Z"}"#, "RFC 3339"),
            (r#"{"type":"a","time":"2026-02-20T00:00:00.Z"}"#, "RFC 3339"),
            (r#"{"type":"a","time":"2026-02-20 00:00:00Z"}"#, "RFC 3339"),
            (r#"{"type":"a","data":1,"data_base64":"aGk="}"#, "keep one"),
            (r#"{"type":"a","data_base64":"a"}"#, "not base64"),
            (r#"{"type":"a","type":"b"}"#, "`type` stands there twice"),
            (r#"{"type":"a","x":1,"x":2}"#, "`x` stands there twice"),
            (r#"{"type":"a","Source":"b"}"#, "did you mean `source`?"),
            (
                r#"{"type":"a","partition_key":"b"}"#,
                "did you mean `partitionkey`?",
            ),
            (r#"{"type":"a","":1}"#, "no attribute name"),
            (r#"{"type":"a","payload":{}}"#, "put it into `data`"),
            (r#"{"type":"a","delay":"5 minutes"}"#, "\"1h30m\""),
            (r#"{"type":"a","delay":"5"}"#, "\"1h30m\""),
            (r#"{"type":"a","delay":5}"#, "not a text"),
            (
                r#"{"type":"a","delay":"99999999999999999999d"}"#,
                "not a duration",
            ),
            (
                r#"{"type":"a","delay":"5m","deliverat":"2026-01-15T10:30:00Z"}"#,
                "keep one",
            ),
            (
                r#"{"type":"a","expirytime":"soon"}"#,
                "`expirytime` is not an RFC 3339",
            ),
            (r#"{"type":"a","endpoint":""}"#, "`endpoint` is empty"),
            (r#"{"type":"a","traceparent":"00-xyz"}"#, "W3C"),
            (r#"{"ack":"each","ack":"none"}"#, "`ack` stands there twice"),
            (r#"{"ack":"maybe"}"#, "\"each\", \"none\" or \"errors\""),
            ("[]", "the batch is empty"),
            (r#"[{"type":"a"},7]"#, "event 2 of 2: it is not an object"),
            (r#"[{"type":"a"},{"id":"x"}]"#, "event 2 of 2: `type` is missing"),
            ("42", "an event is an object"),
            ("\"text\"", "an event is an object"),
        ] {
            let refused = refused(line.as_bytes());
            assert_eq!(refused.code, Code::InvalidEvent, "{line}: {}", refused.message);
            assert!(refused.message.contains(message), "{line}: {}", refused.message);
        }
        let long = format!(r#"{{"type":"{}"}}"#, "a".repeat(256));
        assert!(
            refused(long.as_bytes())
                .message
                .contains("256 bytes; it may have 255")
        );
    }

    /// A8: what is not JSON is refused with the column.
    #[test]
    fn a8_invalid_json_says_where() {
        for (line, message) in [
            (&b"hello"[..], "column 1"),
            (br#"{"type":"a""#, "column 11"),
            (br#"{"type":"a"}{"type":"b"}"#, "end each event with a newline"),
            (br#"[{"type":"a"}"#, "column 13"),
            (br#"[{"type":"a"}] x"#, "trailing"),
            (br#"{"type":"a",}"#, "column 13"),
            (b"{'type':'a'}", "column 2"),
            (b"{\"type\":\"a\x01\"}", "control character"),
            (b"{\"type\":\"\xff\"}", "not UTF-8 from byte 10"),
        ] {
            let refused = refused(line);
            assert_eq!(refused.code, Code::InvalidJson, "{}", refused.message);
            assert!(refused.message.contains(message), "{}", refused.message);
        }
    }

    /// A8: a refusal names the event if its id can be read, whatever else is wrong.
    #[test]
    fn a8_a_refusal_carries_the_id() {
        for (line, id) in [
            (r#"{"id":"e1"}"#, Some("e1")),
            (r#"{"Bad":1,"type":"a","id":"e2"}"#, Some("e2")),
            (r#"{"type":"a","id":7}"#, None),
            (r#"[{"type":"a"},{"id":"e3"}]"#, Some("e3")),
        ] {
            assert_eq!(refused(line.as_bytes()).id.as_deref(), id, "{line}");
        }
    }

    /// A4, I5: bounds on what a line may hold.
    #[test]
    fn i5_lines_are_bounded_inside_too() {
        let fat = format!(r#"[{{"type":"a","data":"{}"}}]"#, "x".repeat(600));
        let alone = fat.trim_matches(['[', ']']).to_owned();
        let many = format!("[{}1]", "1,".repeat(BATCH_EVENTS_MAX));
        let wide: String = (0..=MEMBERS_MAX).map(|n| format!(r#","x{n}":1"#)).collect();
        let deep = |levels: usize| {
            format!(
                r#"{{"type":"a","data":{}{}}}"#,
                "[".repeat(levels),
                "]".repeat(levels)
            )
        };
        for (line, code, message) in [
            (fat, Code::TooLarge, "event 1 of 1: it is longer than 600 bytes"),
            (alone, Code::TooLarge, "the event is longer than 600 bytes"),
            (many, Code::TooLarge, "at most 10000 events"),
            (
                format!(r#"{{"type":"a"{wide}}}"#),
                Code::InvalidEvent,
                "at most 64",
            ),
            (deep(DEPTH_MAX + 1), Code::InvalidEvent, "too deep"),
        ] {
            let refused = refused(line.as_bytes());
            assert_eq!(refused.code, code, "{}", refused.message);
            assert!(refused.message.contains(message), "{}", refused.message);
        }
        assert!(matches!(
            judge(deep(DEPTH_MAX).as_bytes(), &LIMITS),
            Line::Event(_)
        ));
        let side_by_side = format!(r#"{{"type":"a","data":[{}[]]}}"#, "[],".repeat(80));
        assert!(matches!(judge(side_by_side.as_bytes(), &LIMITS), Line::Event(_)));
    }

    /// A1: the control line, and an event that merely has an `ack`.
    #[test]
    fn a1_control_lines() {
        for (line, ack) in [
            (r#"{"ack":"each"}"#, Ack::Each),
            (r#"{"ack":"none"}"#, Ack::None),
            (r#" { "ack" : "errors" }"#, Ack::Errors),
        ] {
            assert_eq!(judge(line.as_bytes(), &LIMITS), Line::Control(ack));
        }
    }

    /// A4: a batch keeps the order and the bytes of its events.
    #[test]
    fn a4_batches_are_read() {
        let line = br#"[ {"type":"a", "id":"1"} , {"type":"b"} ]"#;
        let Line::Batch(batch) = judge(line, &LIMITS) else {
            panic!("not a batch");
        };
        let texts: Vec<&str> = batch.iter().map(|parsed| parsed.json).collect();
        assert_eq!(texts, [r#"{"type":"a", "id":"1"}"#, r#"{"type":"b"}"#]);
    }

    proptest! {
        /// A8: no bytes make it panic, and whatever is taken as an event is JSON with that type.
        #[test]
        fn a8_any_bytes_are_judged(line in prop::collection::vec(any::<u8>(), 1..120)) {
            let _ = judge(&line, &LIMITS);
        }

        /// The same for texts that are nearly events, which random bytes hardly ever are.
        #[test]
        fn a8_near_events_are_judged(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ",", ":", "\"type\"", "\"id\"", "\"ack\"", "\"data\"", "\"a\"", "1",
                    "null", "\"delay\"", "\"5m\"", "\"\\u0061\"", "\\", "\"", " ", "é",
                ]),
                1..20,
            ),
        ) {
            let line = parts.concat();
            if let Line::Event(parsed) = judge(line.as_bytes(), &LIMITS) {
                let value: serde_json::Value = serde_json::from_str(parsed.json)?;
                prop_assert_eq!(value["type"].as_str(), Some(&*parsed.attributes.kind));
            }
        }
    }
}
