//! What the attributes of an event may be: CloudEvents 1.0 (§3.1 context attributes, JSON format §2) and
//! the extensions that mean something here. Pure. Each rule's message says what to write instead.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::frame::{Members, Timing, is_too_deep};
use crate::domain::time::Timestamp;

/// Bytes of a `type`.
const TYPE_BYTES_MAX: usize = 255;
/// Bytes of names that are kept in memory or sent in headers: id, tenant, partition key.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of references, lists and free texts: source, subject, dataschema, datacontenttype, endpoint.
const TEXT_BYTES_MAX: usize = 2048;

/// The attributes that mean something here, in the order of the constants below.
pub(super) const KNOWN: [&str; 17] = [
    "type",
    "id",
    "source",
    "time",
    "specversion",
    "subject",
    "datacontenttype",
    "dataschema",
    "data",
    "data_base64",
    "endpoint",
    "delay",
    "deliverat",
    "expirytime",
    "partitionkey",
    "tenant",
    "traceparent",
];
pub(super) const TYPE: usize = 0;
const ID: usize = 1;
const SOURCE: usize = 2;
const TIME: usize = 3;
const SPECVERSION: usize = 4;
const SUBJECT: usize = 5;
const DATACONTENTTYPE: usize = 6;
const DATASCHEMA: usize = 7;
const DATA: usize = 8;
const DATA_BASE64: usize = 9;
const ENDPOINT: usize = 10;
const DELAY: usize = 11;
const DELIVERAT: usize = 12;
const EXPIRYTIME: usize = 13;
const PARTITIONKEY: usize = 14;
const TENANT: usize = 15;
const TRACEPARENT: usize = 16;

/// What posthaste reads of an event; texts are borrowed from the line unless they hold escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `type`
    pub kind: Cow<'a, str>,
    /// `id`, if given.
    pub id: Option<Cow<'a, str>>,
    /// `source`, if given.
    pub source: Option<Cow<'a, str>>,
    /// Whether `time` is given.
    pub has_time: bool,
    /// Whether `specversion` is given.
    pub has_specversion: bool,
    /// `endpoint`
    pub endpoint: Option<Cow<'a, str>>,
    /// `delay` or `deliverat`
    pub timing: Timing,
    /// `expirytime`
    pub expires: Option<Timestamp>,
    /// `partitionkey`
    pub partition_key: Option<Cow<'a, str>>,
    /// `tenant`
    pub tenant: Option<Cow<'a, str>>,
    /// `traceparent`
    pub traceparent: Option<Cow<'a, str>>,
}

/// The place of a known attribute in [`KNOWN`].
pub(super) fn known(name: &str) -> Option<usize> {
    KNOWN.iter().position(|known| *known == name)
}

/// What is wrong with an attribute's name; CloudEvents 1.0 §3: lower-case letters and digits.
pub(super) fn name_problem(name: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !name.is_empty() && name.bytes().all(plain) {
        return None;
    }
    let lower = name.to_ascii_lowercase().replace(['_', '-'], "");
    let hint = match known(&lower) {
        Some(place) => format!("did you mean `{}`?", KNOWN[place]),
        None => "rename it, or put it into `data`".to_owned(),
    };
    Some(format!(
        "`{}` is no attribute name, which has lower-case letters and digits only; {hint}",
        excerpt(name)
    ))
}

/// A text short enough for a message.
pub(super) fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(40) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// The text of a JSON string; `None` for any other value, and for a string with half a surrogate pair.
pub(super) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let json = raw.get();
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

/// The event's id, if it is sound.
pub(super) fn id<'a>(members: &Members<'a>) -> Option<Cow<'a, str>> {
    optional(members, ID, NAME_BYTES_MAX).ok().flatten()
}

/// Checks the members of one event.
///
/// # Errors
/// What is wrong first, and how to mend it.
pub(super) fn check<'a>(members: &Members<'a>) -> Result<Attributes<'a>, String> {
    if let Some(problem) = &members.problem {
        return Err(problem.clone());
    }
    let kind = optional(members, TYPE, TYPE_BYTES_MAX)?
        .ok_or("`type` is missing; name what happened, such as \"contact.created\"")?;
    for place in [ID, SOURCE, TIME, SPECVERSION] {
        if members.get(place).is_none() && members.get_or_null(place).is_some() {
            return Err(format!(
                "`{}` is null; give it a value or leave it out",
                KNOWN[place]
            ));
        }
    }
    for place in [SUBJECT, DATACONTENTTYPE, DATASCHEMA] {
        optional(members, place, TEXT_BYTES_MAX)?;
    }
    let has_specversion = check_specversion(members)?;
    check_data(members)?;
    check_extensions(members)?;
    Ok(Attributes {
        kind,
        id: optional(members, ID, NAME_BYTES_MAX)?,
        source: optional(members, SOURCE, TEXT_BYTES_MAX)?,
        has_time: instant(members, TIME)?.is_some(),
        has_specversion,
        endpoint: optional(members, ENDPOINT, TEXT_BYTES_MAX)?,
        timing: timing(members)?,
        expires: instant_after_1970(members, EXPIRYTIME)?,
        partition_key: optional(members, PARTITIONKEY, NAME_BYTES_MAX)?,
        tenant: optional(members, TENANT, NAME_BYTES_MAX)?,
        traceparent: traceparent(members)?,
    })
}

/// A text attribute that may be absent, but not empty, longer than `bytes_max`, or with control characters
/// (CloudEvents 1.0 §3.1.1 String).
fn optional<'a>(
    members: &Members<'a>,
    place: usize,
    bytes_max: usize,
) -> Result<Option<Cow<'a, str>>, String> {
    let Some(raw) = members.get(place) else {
        return Ok(None);
    };
    let name = KNOWN[place];
    let text = text(raw).ok_or_else(|| format!("`{name}` is not a text; write it in double quotes"))?;
    if text.is_empty() {
        let hint = if place == TYPE {
            "name what happened"
        } else {
            "give it a value or leave it out"
        };
        return Err(format!("`{name}` is empty; {hint}"));
    }
    if text.len() > bytes_max {
        return Err(format!(
            "`{name}` has {} bytes; it may have {bytes_max}",
            text.len()
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("`{name}` holds a control character; leave it out"));
    }
    Ok(Some(text))
}

fn check_specversion(members: &Members<'_>) -> Result<bool, String> {
    match members.get(SPECVERSION) {
        None => Ok(false),
        Some(raw) if text(raw).as_deref() == Some("1.0") => Ok(true),
        Some(_) => Err("`specversion` is not \"1.0\"; write that or leave it out".to_owned()),
    }
}

/// JSON format §3.1: `data` or `data_base64`, not both.
fn check_data(members: &Members<'_>) -> Result<(), String> {
    let data = members.get_or_null(DATA);
    let binary = members.get(DATA_BASE64);
    if data.is_some() && binary.is_some() {
        return Err("both `data` and `data_base64` are given; keep one".to_owned());
    }
    if data.is_some_and(|raw| is_too_deep(raw.get())) {
        return Err("`data` nests too deep (64 levels); flatten it, or send it as a text".to_owned());
    }
    let Some(raw) = binary else {
        return Ok(());
    };
    let decodes = text(raw).is_some_and(|text| STANDARD.decode(text.as_bytes()).is_ok());
    if decodes {
        Ok(())
    } else {
        Err("`data_base64` is not base64 (RFC 4648 §4, with padding)".to_owned())
    }
}

/// CloudEvents 1.0 §3.1.1: an attribute is a text, a number or a boolean; structures belong into `data`.
fn check_extensions(members: &Members<'_>) -> Result<(), String> {
    match members
        .extensions()
        .find(|(_, raw)| raw.get().starts_with(['{', '[']))
    {
        None => Ok(()),
        Some((name, _)) => Err(format!(
            "`{}` is an object or an array; put it into `data`, attributes are texts, numbers or booleans",
            excerpt(name)
        )),
    }
}

/// An RFC 3339 instant, in milliseconds since 1970, which may be before that.
fn instant(members: &Members<'_>, place: usize) -> Result<Option<i64>, String> {
    let Some(raw) = members.get(place) else {
        return Ok(None);
    };
    text(raw)
        .filter(|text| looks_like_rfc3339(text.as_bytes()))
        .and_then(|text| text.parse::<jiff::Timestamp>().ok())
        .map(|instant| Some(instant.as_millisecond()))
        .ok_or_else(|| {
            format!(
                "`{}` is not an RFC 3339 date and time; write it as \"2026-01-15T10:30:00Z\"",
                KNOWN[place]
            )
        })
}

fn instant_after_1970(members: &Members<'_>, place: usize) -> Result<Option<Timestamp>, String> {
    // What lies before 1970 is past in any case.
    let past = |ms: i64| Timestamp(u64::try_from(ms).unwrap_or(0));
    Ok(instant(members, place)?.map(past))
}

/// The shape of RFC 3339 §5.6 `date-time`; whether the numbers make a date is left to the calendar.
fn looks_like_rfc3339(text: &[u8]) -> bool {
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let Some((date_time, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let shape = date_time.iter().enumerate().all(|(index, byte)| match index {
        4 | 7 => *byte == b'-',
        10 => matches!(byte, b'T' | b't'),
        13 | 16 => *byte == b':',
        _ => byte.is_ascii_digit(),
    });
    let zone_at = rest
        .iter()
        .position(|byte| !(byte.is_ascii_digit() || *byte == b'.'));
    let (fraction, zone) = rest.split_at(zone_at.unwrap_or(rest.len()));
    let fraction_ok = fraction.is_empty() || fraction.strip_prefix(b".").is_some_and(digits);
    let zone_ok = match zone {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => digits(&[*h1, *h2, *m1, *m2]),
        _ => false,
    };
    shape && fraction_ok && zone_ok
}

fn timing(members: &Members<'_>) -> Result<Timing, String> {
    let at = instant_after_1970(members, DELIVERAT)?;
    let delay = optional(members, DELAY, NAME_BYTES_MAX)?;
    match (delay, at) {
        (None, None) => Ok(Timing::Now),
        (None, Some(at)) => Ok(Timing::At(at)),
        (Some(_), Some(_)) => Err("both `delay` and `deliverat` are given; keep one".to_owned()),
        (Some(delay), None) => duration(&delay).map(Timing::After).ok_or_else(|| {
            format!(
                "`delay` is not a duration: {:?}; write it as \"500ms\", \"5m\" or \"1h30m\"",
                excerpt(&delay)
            )
        }),
    }
}

/// A duration as numbers with units, `1h30m`; units are ms, s, m, h and d.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total_ms = 0u64;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
        total_ms = total_ms.checked_add(part)?;
        rest = next;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total_ms))
}

/// W3C Trace Context §3.2: it is sent on as a header, so it has to be one.
fn traceparent<'a>(members: &Members<'a>) -> Result<Option<Cow<'a, str>>, String> {
    let Some(text) = optional(members, TRACEPARENT, NAME_BYTES_MAX)? else {
        return Ok(None);
    };
    let hex = |part: &str| {
        part.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let parts: Vec<&str> = text.split('-').collect();
    match parts[..] {
        [version, trace, parent, flags]
            if (version.len(), trace.len(), parent.len(), flags.len()) == (2, 32, 16, 2)
                && parts.iter().all(|part| hex(part)) =>
        {
            Ok(Some(text))
        }
        _ => Err(
            "`traceparent` is not version-trace-parent-flags in lower-case hex (W3C Trace Context); \
             mend it or leave it out"
                .to_owned(),
        ),
    }
}
