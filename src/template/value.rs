//! Values as text and as JSON: what printing, filters and captures agree on. JSON's words are printed (`true`,
//! `null`), never the engine's own.

use std::borrow::Cow;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::limits::{BODY_BYTES_MAX, VALUE_DEPTH_MAX};
use super::moment::Moment;
use super::problem::Problem;

/// JSON text made by `|tojson`: printed as it is where JSON values stand.
#[derive(Debug)]
pub(super) struct JsonText(pub String);

impl minijinja::value::Object for JsonText {
    fn repr(self: &std::sync::Arc<Self>) -> minijinja::value::ObjectRepr {
        minijinja::value::ObjectRepr::Plain
    }

    fn render(self: &std::sync::Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as it is printed.
pub(super) enum Printed<'v> {
    /// Nothing: undefined or null.
    Nothing,
    /// A text.
    Text(Cow<'v, str>),
    /// Numbers, booleans, lists and objects, as JSON.
    Json(String),
}

/// What `value` looks like when it is printed.
pub(super) fn printed(value: &Value) -> Result<Printed<'_>, Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Ok(Printed::Nothing),
        ValueKind::String => Ok(Printed::Text(value.as_str().unwrap_or_default().into())),
        ValueKind::Plain => Ok(match value.downcast_object_ref::<JsonText>() {
            Some(json) => Printed::Json(json.0.clone()),
            None => Printed::Text(value.to_string().into()),
        }),
        _ => {
            if let Some(moment) = value.downcast_object_ref::<Moment>() {
                return Ok(Printed::Text(moment.to_string().into()));
            }
            let mut json = String::new();
            write_json(value, &mut json, 0)?;
            Ok(Printed::Json(json))
        }
    }
}

/// `value` as text: strings as they are, null as nothing, everything else as JSON.
///
/// # Errors
/// Undefined values, bytes, and what has no JSON form.
pub(super) fn text_of(value: &Value) -> Result<String, Error> {
    defined(value)?;
    Ok(match printed(value)? {
        Printed::Nothing => String::new(),
        Printed::Text(text) => text.into_owned(),
        Printed::Json(json) => json,
    })
}

/// Appends `value` as compact JSON; undefined becomes `null`.
pub(super) fn write_json(value: &Value, json: &mut String, depth: usize) -> Result<(), Error> {
    if depth > VALUE_DEPTH_MAX {
        return Err(invalid("the value nests too deep to be printed"));
    }
    if json.len() > BODY_BYTES_MAX {
        return Err(invalid(format!(
            "the value has more than {BODY_BYTES_MAX} bytes when it is written out"
        )));
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => json.push_str("null"),
        ValueKind::Bool => json.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(value, json)?,
        ValueKind::String => quote(value.as_str().unwrap_or_default(), json),
        ValueKind::Seq | ValueKind::Iterable => {
            json.push('[');
            for (index, item) in value.try_iter()?.checked().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write_json(&item?, json, depth + 1)?;
            }
            json.push(']');
        }
        ValueKind::Map => write_map(value, json, depth)?,
        ValueKind::Plain => match value.downcast_object_ref::<JsonText>() {
            Some(text) => json.push_str(&text.0),
            None => quote(&value.to_string(), json),
        },
        ValueKind::Bytes => return Err(invalid("bytes can't be printed; encode them by |b64")),
        _ => return Err(invalid("the value can't be printed")),
    }
    Ok(())
}

fn write_map(value: &Value, json: &mut String, depth: usize) -> Result<(), Error> {
    if let Some(moment) = value.downcast_object_ref::<Moment>() {
        quote(&moment.to_string(), json);
        return Ok(());
    }
    json.push('{');
    for (index, key) in value.try_iter()?.checked().enumerate() {
        if index > 0 {
            json.push(',');
        }
        let key = key?;
        quote(&text_of(&key)?, json);
        json.push(':');
        write_json(&value.get_item(&key)?, json, depth + 1)?;
    }
    json.push('}');
    Ok(())
}

fn write_number(value: &Value, json: &mut String) -> Result<(), Error> {
    if value.is_integer() {
        json.push_str(&value.to_string());
        return Ok(());
    }
    let number = f64::try_from(value.clone())?;
    if !number.is_finite() {
        return Err(invalid("the number is not finite"));
    }
    // The same digits that serde_json writes, so that an event's numbers come out as they went in.
    json.push_str(
        &serde_json::Number::from_f64(number).map_or_else(String::new, |number| number.to_string()),
    );
    Ok(())
}

/// Appends `text` as a JSON string, quotes included (RFC 8259, section 7).
pub fn quote(text: &str, json: &mut String) {
    json.push('"');
    escape_json(text, json);
    json.push('"');
}

/// Appends `text` as it stands inside a JSON string.
pub(super) fn escape_json(text: &str, json: &mut String) {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(special) {
        let (plain, rest) = text[from..].split_at(at);
        json.push_str(plain);
        match rest.bytes().next() {
            Some(b'"') => json.push_str("\\\""),
            Some(b'\\') => json.push_str("\\\\"),
            Some(b'\n') => json.push_str("\\n"),
            Some(b'\r') => json.push_str("\\r"),
            Some(b'\t') => json.push_str("\\t"),
            other => json.push_str(&format!("\\u{:04x}", other.unwrap_or_default())),
        }
        from += at + 1;
    }
    json.push_str(&text[from..]);
}

/// Where the first character stands that a JSON string can't hold as it is.
fn special(text: &str) -> Option<usize> {
    // Most pieces have none, which is found out by many bytes at a time.
    const PIECE: usize = 32;
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    let pieces = text.as_bytes().chunks(PIECE);
    let (at, piece) = pieces
        .enumerate()
        .find(|(_, piece)| piece.iter().fold(false, |found, byte| found | is_special(byte)))?;
    Some(at * PIECE + piece.iter().position(is_special)?)
}

/// Whether `text` is a JSON text (RFC 8259).
///
/// # Errors
/// Why it is not, and where.
pub(super) fn is_json(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(|_| ())
}

/// `value` as JSON: integers stay integers, lists and objects stay what they are, undefined becomes null.
///
/// # Errors
/// What JSON can't hold: bytes, numbers that are not finite, values that nest too deep.
pub fn to_json(value: &Value) -> Result<serde_json::Value, Problem> {
    if let Some(text) = value.as_str() {
        return Ok(text.into());
    }
    if let (true, Ok(number)) = (value.is_integer(), i64::try_from(value.clone())) {
        return Ok(number.into());
    }
    serde_json::from_str(&to_json_text(value)?)
        .map_err(|error| Problem::new(format!("it is not JSON: {error}"), ""))
}

/// `value` as compact JSON text. Unlike [`to_json`] it keeps the order of members.
///
/// # Errors
/// As [`to_json`].
pub fn to_json_text(value: &Value) -> Result<String, Problem> {
    let mut json = String::new();
    append_json(value, &mut json)?;
    Ok(json)
}

/// Appends `value` to `json` as compact JSON text.
///
/// # Errors
/// As [`to_json`]; then a part of it may be there.
pub fn append_json(value: &Value, json: &mut String) -> Result<(), Problem> {
    write_json(value, json, 0).map_err(|error| Problem::from_engine(&error, ""))
}

/// `json` as a value for templates: integers stay integers.
#[must_use]
pub fn from_json(json: serde_json::Value) -> Value {
    serde::Deserialize::deserialize(json).unwrap_or_default()
}

/// Refuses what is undefined.
pub(super) fn defined(value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    Ok(())
}

/// An operation that this value does not have.
pub(super) fn invalid(says: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, says)
}
