//! From events to the bytes of a body. Pure, and knows neither the request around it nor connections.
//!
//! Each event becomes a [`Piece`] by the endpoint's format; a batch puts the pieces together: JSON values in an
//! array, in lines or under a name, lines of text below each other.

mod compress;
mod fields;
mod line;
mod xml;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::value::RawValue;

use crate::domain::endpoint::{BodyFormat, BodyPolicy, DocumentKind};
use crate::domain::event::Event;
use crate::template::{Scope, Template};

/// Longest body, in bytes, before it is compressed. Batches are kept far below by their own bounds.
const BODY_BYTES_MAX: usize = 64 << 20;

/// SOAP 1.1 (W3C Note of 8 May 2000, section 4).
const SOAP_OPEN: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
    <soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body>";
const SOAP_CLOSE: &str = "</soap:Body></soap:Envelope>";

/// How the pieces of several events become one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape<'a> {
    /// One event, as its format says.
    Single,
    /// A JSON array.
    Array,
    /// One JSON value a line.
    Lines,
    /// `{"name": [ … ]}`.
    Wrapped(&'a str),
    /// One document from a template that loops over `batch.events`.
    Template,
}

/// One event and what templates see of it.
#[derive(Clone, Debug)]
pub struct Item {
    /// The event's JSON.
    pub json: Bytes,
    /// Its names.
    pub scope: Scope,
}

/// What one event contributes to a body.
enum Piece {
    Json(Bytes),
    Line(String),
    Document(String),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Json(json) => json,
            Self::Line(text) | Self::Document(text) => text.as_bytes(),
        }
    }
}

/// Writes the body for `items`, at least one. `whole` is what a template sees that makes one document of them all.
///
/// # Errors
/// One sentence: a template or an expression failed on this event, or a value can't stand where the format puts it.
pub fn write(policy: &BodyPolicy, shape: Shape<'_>, items: &[Item], whole: &Scope) -> Result<Bytes, String> {
    let body = match (&policy.format, shape) {
        (BodyFormat::None, _) => Bytes::new(),
        (BodyFormat::Document { kind, template }, Shape::Template) => {
            document(*kind, template, whole)?.into()
        }
        (format, Shape::Single) => single(format, items)?,
        (format, shape) => {
            let pieces: Result<Vec<Piece>, String> = items.iter().map(|item| part(format, item)).collect();
            put_together(pieces?, shape)?
        }
    };
    finished(policy, body)
}

/// The body of an endpoint whose requests carry the events' own bytes.
///
/// # Errors
/// As [`write()`].
pub fn plain(policy: &BodyPolicy, shape: Shape<'_>, events: &[Event]) -> Result<Bytes, String> {
    if let (Shape::Single, [event, ..]) = (shape, events) {
        return compress::compress(policy.compress, event.json.clone());
    }
    let piece = |event: &Event| Piece::Json(event.json.clone());
    finished(policy, put_together(events.iter().map(piece).collect(), shape)?)
}

/// `body` as it is sent.
fn finished(policy: &BodyPolicy, body: Bytes) -> Result<Bytes, String> {
    if body.len() > BODY_BYTES_MAX {
        return Err(format!(
            "the body would have {} bytes, more than {BODY_BYTES_MAX}",
            body.len()
        ));
    }
    compress::compress(policy.compress, body)
}

/// `content-type` of what [`write()`] makes, if it makes anything.
#[must_use]
pub fn content_type(policy: &BodyPolicy, shape: Shape<'_>) -> Option<HeaderValue> {
    if policy.content_type.is_some() {
        return policy.content_type.clone();
    }
    let name = match (&policy.format, shape) {
        (BodyFormat::None, _) => return None,
        (BodyFormat::CloudEvents, Shape::Single) => "application/cloudevents+json",
        (BodyFormat::CloudEvents, Shape::Array) => "application/cloudevents-batch+json",
        (BodyFormat::Form(_), _) => "application/x-www-form-urlencoded",
        (BodyFormat::Line(layout), _) => line::media_type(layout),
        (BodyFormat::Document { kind, .. }, shape) => document_type(*kind, shape),
        (_, Shape::Lines) => "application/x-ndjson",
        _ => "application/json",
    };
    Some(HeaderValue::from_static(name))
}

fn document_type(kind: DocumentKind, shape: Shape<'_>) -> &'static str {
    match (kind, shape) {
        (DocumentKind::Json, Shape::Lines) => "application/x-ndjson",
        (DocumentKind::Json, _) => "application/json",
        (DocumentKind::Xml, _) => "application/xml",
        (DocumentKind::Soap, _) => "text/xml; charset=utf-8",
        (DocumentKind::Text, _) => "text/plain; charset=utf-8",
    }
}

/// `content-encoding` of what [`write()`] makes.
pub use compress::content_encoding;

fn single(format: &BodyFormat, items: &[Item]) -> Result<Bytes, String> {
    let [item, ..] = items else {
        return Err("a request needs an event".to_owned());
    };
    Ok(match piece(format, item)? {
        Piece::Json(bytes) => bytes,
        Piece::Line(line) => (line + "\n").into(),
        Piece::Document(text) => text.into(),
    })
}

/// What one event contributes to a body that it shares with others: where texts are lines, one line.
fn part(format: &BodyFormat, item: &Item) -> Result<Piece, String> {
    let piece = piece(format, item)?;
    if let (BodyFormat::Document { template, .. }, Piece::Line(line)) = (format, &piece) {
        let is_one = |text: &str| !text.trim_end().contains(['\n', '\r']);
        if is_one(template.source()) && !is_one(line) {
            return Err(
                "body.template: a value holds a line break, and would make two lines of one event".to_owned(),
            );
        }
    }
    Ok(piece)
}

fn piece(format: &BodyFormat, item: &Item) -> Result<Piece, String> {
    Ok(match format {
        BodyFormat::Event | BodyFormat::CloudEvents => Piece::Json(item.json.clone()),
        BodyFormat::Envelope => Piece::Json(envelope(&item.json)?.into()),
        BodyFormat::Data => Piece::Json(data(&item.json)?.into()),
        BodyFormat::JsonFields(list) => Piece::Json(fields::json(list, &item.scope, &item.json)?.into()),
        BodyFormat::Form(list) => Piece::Document(fields::form(list, &item.scope, &item.json)?),
        BodyFormat::Line(layout) => Piece::Line(line::line(layout, &item.scope, &item.json)?),
        BodyFormat::Document { kind, template } => {
            let text = document(*kind, template, &item.scope)?;
            match kind {
                DocumentKind::Json => Piece::Json(text.into()),
                DocumentKind::Text => Piece::Line(text),
                DocumentKind::Xml | DocumentKind::Soap => Piece::Document(text),
            }
        }
        BodyFormat::None => Piece::Document(String::new()),
    })
}

fn document(kind: DocumentKind, template: &Template, scope: &Scope) -> Result<String, String> {
    let text = template
        .render(scope)
        .map_err(|problem| format!("body.template: {problem}"))?;
    let text = match kind {
        // What is written decides, not what is printed into it.
        DocumentKind::Soap if !template.source().contains("Envelope") => {
            format!("{SOAP_OPEN}{text}{SOAP_CLOSE}")
        }
        _ => text,
    };
    if matches!(kind, DocumentKind::Xml | DocumentKind::Soap) {
        xml::check(&text).map_err(|wrong| format!("body.template: what it makes is not XML: {wrong}"))?;
    }
    Ok(text)
}

fn put_together(pieces: Vec<Piece>, shape: Shape<'_>) -> Result<Bytes, String> {
    let is_json = matches!(pieces.first(), Some(Piece::Json(_)));
    let (open, close) = match shape {
        _ if !is_json => (String::new(), ""),
        Shape::Array => ("[".to_owned(), "]"),
        Shape::Wrapped(name) => (format!("{{{}:[", serde_json::Value::from(name)), "]}"),
        Shape::Single | Shape::Lines | Shape::Template => (String::new(), ""),
    };
    let separator: &[u8] = if close.is_empty() { b"" } else { b"," };
    // Each with its separator or the end of its line: growing would copy all that is there, again and again.
    let bytes: usize = pieces.iter().map(|piece| piece.bytes().len() + 1).sum();
    let mut body: Vec<u8> = Vec::with_capacity(open.len() + bytes + close.len());
    body.extend_from_slice(open.as_bytes());
    for (index, piece) in pieces.into_iter().enumerate() {
        if index > 0 {
            body.extend_from_slice(separator);
        }
        if matches!(piece, Piece::Document(_)) {
            return Err(
                "documents of this format can't be batched: use batch.shape = \"template\"".to_owned(),
            );
        }
        body.extend_from_slice(piece.bytes());
        if close.is_empty() {
            body.push(b'\n');
        }
    }
    body.extend_from_slice(close.as_bytes());
    Ok(body.into())
}

/// The members of an event that the envelope shows, as they were written.
#[derive(serde::Deserialize)]
struct Shown<'a> {
    #[serde(borrow, rename = "type")]
    kind: &'a RawValue,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<&'a RawValue>,
}

fn shown(event: &[u8]) -> Result<Shown<'_>, String> {
    serde_json::from_slice(event).map_err(|error| format!("the stored event is not readable: {error}"))
}

fn data(event: &[u8]) -> Result<String, String> {
    let shown = shown(event)?;
    Ok(shown
        .data
        .or(shown.data_base64)
        .map_or("null", RawValue::get)
        .to_owned())
}

fn envelope(event: &[u8]) -> Result<String, String> {
    let shown = shown(event)?;
    let of = |value: Option<&RawValue>| value.map_or("null", RawValue::get).to_owned();
    Ok(format!(
        "{{\"event\":{},\"timestamp\":{},\"data\":{}}}",
        shown.kind.get(),
        of(shown.time),
        of(shown.data.or(shown.data_base64))
    ))
}

#[cfg(test)]
mod tests;
