//! A request to the text of an event: the CloudEvents HTTP binding 1.0.2, all three of its modes, and plain JSON. Pure.
//! What it gives is judged like a line of a producer; it refuses to know where requests come from.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, header};
use percent_encoding::percent_decode;
use serde_json::value::RawValue;

use super::answer;
use super::frame::{Code, Refused};

/// How a request carries its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `application/json`: an event, or an array of them.
    Json,
    /// `application/cloudevents+json`: an event (HTTP binding 3.2).
    Structured,
    /// `application/cloudevents-batch+json`: an array of events (HTTP binding 3.3).
    Batched,
    /// Attributes in `ce-` headers, `data` in the body (HTTP binding 3.1).
    Binary,
}

impl Mode {
    /// The mode of a request with these headers. No content type and no `ce-` headers: JSON.
    ///
    /// # Errors
    /// A refusal when the content type is none that events come in.
    pub fn of(headers: &HeaderMap) -> Result<Self, Refused> {
        let content_type = content_type(headers);
        match essence(content_type).as_str() {
            "application/cloudevents+json" => Ok(Self::Structured),
            "application/cloudevents-batch+json" => Ok(Self::Batched),
            other if other.starts_with("application/cloudevents") => Err(unusable(other)),
            _ if ["ce-specversion", "ce-type", "ce-id"]
                .iter()
                .any(|name| headers.contains_key(*name)) =>
            {
                Ok(Self::Binary)
            }
            "application/json" | "" => Ok(Self::Json),
            other => Err(unusable(other)),
        }
    }

    /// The JSON text of what a request in this mode carries.
    ///
    /// # Errors
    /// A refusal when header and body contradict each other, or a header can't be an attribute.
    pub fn text<'a>(self, headers: &HeaderMap, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Refused> {
        let first = body.trim_ascii_start().first();
        match (self, first) {
            (Self::Structured, Some(b'[')) => Err(invalid(
                "an array is a batch: send it as application/cloudevents-batch+json or application/json",
            )),
            (Self::Batched, Some(b'{')) => Err(invalid(
                "a batch is an array of events: send one event as application/cloudevents+json or application/json",
            )),
            (Self::Binary, _) => binary(headers, body).map(Cow::Owned),
            _ => Ok(Cow::Borrowed(body)),
        }
    }
}

fn unusable(content_type: &str) -> Refused {
    invalid(&format!(
        "events don't come as {content_type:?}; send application/json, application/cloudevents+json, \
         application/cloudevents-batch+json, or any type with ce- headers"
    ))
}

fn invalid(message: &str) -> Refused {
    Refused::new(Code::InvalidEvent, message)
}

fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .trim()
}

/// A media type without its parameters, in lower case.
fn essence(content_type: &str) -> String {
    content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// An event of its `ce-` headers and its body.
fn binary(headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut text = vec![b'{'];
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else {
            continue;
        };
        if ["data", "data_base64", "datacontenttype"].contains(&name) {
            return Err(invalid(&format!(
                "the header ce-{name} can't be: data is the body, and its type is in content-type"
            )));
        }
        let value = decoded(value)
            .ok_or_else(|| invalid(&format!("the header ce-{name} is not percent-encoded UTF-8")))?;
        member(&mut text, name, |text| answer::string(text, &value));
    }
    let content_type = content_type(headers);
    if !content_type.is_empty() {
        member(&mut text, "datacontenttype", |text| {
            answer::string(text, content_type);
        });
    }
    if !body.is_empty() {
        data(&mut text, &essence(content_type), body)?;
    }
    text.push(b'}');
    Ok(text)
}

fn member(text: &mut Vec<u8>, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    if text.len() > 1 {
        text.push(b',');
    }
    answer::string(text, name);
    text.push(b':');
    value(text);
}

/// The body as JSON, as a text or as base64, by its type (JSON format 3.1.1).
fn data(text: &mut Vec<u8>, media_type: &str, body: &[u8]) -> Result<(), Refused> {
    let is_json = media_type.is_empty() || media_type.ends_with("/json") || media_type.ends_with("+json");
    if is_json {
        let sound = serde_json::from_slice::<&RawValue>(body).map_err(|error| {
            Refused::new(
                Code::InvalidJson,
                format!("the body is not JSON, which its content-type says or leaves open: {error}"),
            )
        })?;
        member(text, "data", |text| {
            text.extend_from_slice(sound.get().as_bytes())
        });
        return Ok(());
    }
    let is_text = media_type.starts_with("text/")
        || media_type.ends_with("/xml")
        || media_type.ends_with("+xml")
        || media_type == "application/x-www-form-urlencoded";
    match std::str::from_utf8(body) {
        Ok(words) if is_text => member(text, "data", |text| answer::string(text, words)),
        _ => member(text, "data_base64", |text| {
            answer::string(text, &STANDARD.encode(body))
        }),
    }
    Ok(())
}

/// The value of an attribute's header: quotes undone (RFC 9110 5.6.4), then one round of percent-decoding
/// (HTTP binding 3.1.3.2). `None`: not UTF-8.
fn decoded(value: &HeaderValue) -> Option<String> {
    let bytes = value.as_bytes();
    let unquoted = match bytes {
        [b'"', inner @ .., b'"'] => Cow::Owned(unescaped(inner)),
        _ => Cow::Borrowed(bytes),
    };
    let plain = percent_decode(&unquoted).decode_utf8().ok()?;
    Some(plain.into_owned())
}

fn unescaped(quoted: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        let byte = if byte == b'\\' {
            bytes.next().copied().unwrap_or(byte)
        } else {
            byte
        };
        plain.push(byte);
    }
    plain
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use serde_json::{Value, json};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            )
        };
        pairs.iter().map(pair).collect()
    }

    fn text(pairs: &[(&str, &str)], body: &[u8]) -> Result<Value, String> {
        let headers = headers(pairs);
        let mode = Mode::of(&headers).map_err(|refused| refused.message)?;
        let text = mode.text(&headers, body).map_err(|refused| refused.message)?;
        Ok(serde_json::from_slice(&text).unwrap())
    }

    /// A9: the mode follows from the headers alone.
    #[test]
    fn a9_modes() {
        for (pairs, expected) in [
            (&[][..], Some(Mode::Json)),
            (
                &[("content-type", "Application/JSON; charset=utf-8")],
                Some(Mode::Json),
            ),
            (
                &[("content-type", "application/cloudevents+json; charset=UTF-8")],
                Some(Mode::Structured),
            ),
            (
                &[("content-type", "application/cloudevents-batch+json")],
                Some(Mode::Batched),
            ),
            (
                &[("content-type", "text/plain"), ("ce-type", "a")],
                Some(Mode::Binary),
            ),
            (&[("ce-specversion", "1.0")], Some(Mode::Binary)),
            (
                &[("content-type", "application/cloudevents+json"), ("ce-type", "a")],
                Some(Mode::Structured),
            ),
            (
                &[("content-type", "application/cloudevents+avro"), ("ce-type", "a")],
                None,
            ),
            (&[("content-type", "application/x-www-form-urlencoded")], None),
        ] {
            assert_eq!(Mode::of(&headers(pairs)).ok(), expected, "{pairs:?}");
        }
    }

    /// A9: attributes are decoded as the binding says, and data lands by its type.
    #[test]
    fn a9_binary_mode() {
        let attributes = [
            ("ce-type", "a"),
            ("ce-subject", "%E2%82%AC%20and%20%22more%22"),
            ("ce-ext", "\"quoted \\\"%41\\\"\""),
        ];
        for (content_type, body, data) in [
            (
                "application/json",
                &b" {\"n\":1} "[..],
                json!({ "data": { "n": 1 } }),
            ),
            ("application/vnd.x+json; v=1", b"3", json!({ "data": 3 })),
            ("text/plain", "Zo\u{eb}".as_bytes(), json!({ "data": "Zo\u{eb}" })),
            ("application/xml", b"<a/>", json!({ "data": "<a/>" })),
            ("text/plain", b"\xff", json!({ "data_base64": "/w==" })),
            (
                "application/octet-stream",
                b"abc",
                json!({ "data_base64": "YWJj" }),
            ),
            ("application/json", b"", json!({})),
        ] {
            let mut pairs = attributes.to_vec();
            pairs.push(("content-type", content_type));
            let mut expected = data;
            for (name, value) in [
                ("type", "a"),
                ("subject", "\u{20ac} and \"more\""),
                ("ext", "quoted \"A\""),
                ("datacontenttype", content_type),
            ] {
                expected[name] = value.into();
            }
            assert_eq!(text(&pairs, body), Ok(expected), "{content_type}");
        }
    }

    /// A9: what contradicts itself is refused, and the refusal says what to do.
    #[test]
    fn a9_contradictions() {
        for (pairs, body, message) in [
            (
                &[("content-type", "application/cloudevents+json")][..],
                &b" []"[..],
                "an array is a batch",
            ),
            (
                &[("content-type", "application/cloudevents-batch+json")],
                b"{}",
                "a batch is an array",
            ),
            (
                &[("ce-type", "a"), ("ce-data", "x")],
                b"",
                "the header ce-data can't be",
            ),
            (&[("ce-type", "%ff")], b"", "not percent-encoded UTF-8"),
            (
                &[("ce-type", "a"), ("content-type", "application/json")],
                b"{",
                "the body is not JSON",
            ),
        ] {
            let error = text(pairs, body).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
