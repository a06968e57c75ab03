//! What the body of a request is made of.

use http::HeaderValue;

use crate::template::{Expression, Template};

/// The body of each request to an endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BodyPolicy {
    /// How an event becomes a body.
    pub format: BodyFormat,
    /// `content-type` of the request; `None`: that of the format.
    pub content_type: Option<HeaderValue>,
    /// How the finished body is compressed.
    pub compress: Compression,
    /// Name of the member that holds a batch: `{"leads": [ … ]}`; empty: none. A single event is wrapped as well, so
    /// that the endpoint sees one shape.
    pub wrap: Box<str>,
}

/// How an event becomes a body.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum BodyFormat {
    /// The event's own JSON, byte for byte.
    #[default]
    Event,
    /// The same, called by the media type of CloudEvents (HTTP binding 1.0.2, structured mode).
    CloudEvents,
    /// `{"event": type, "timestamp": time, "data": data}`.
    Envelope,
    /// `data` alone.
    Data,
    /// A JSON object put together from fields.
    JsonFields(Fields),
    /// JSON, XML or plain text from a template.
    Document {
        /// Which of them.
        kind: DocumentKind,
        /// Its text, with the escaping of the kind.
        template: Template,
    },
    /// `application/x-www-form-urlencoded` (WHATWG URL, section 5).
    Form(Fields),
    /// One line of separated values.
    Line(LineLayout),
    /// No body at all.
    None,
}

/// What a template makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// A JSON document.
    Json,
    /// An XML document.
    Xml,
    /// The content of a SOAP 1.1 body, or a whole envelope.
    Soap,
    /// Plain text.
    Text,
}

/// Names and where their values come from, in the order written.
#[derive(Clone, Debug, PartialEq)]
pub enum Fields {
    /// Every member of `data`.
    Data,
    /// These. A name may be a dotted path (`contact.email`) where the format nests.
    Mapped(Vec<(Box<str>, Expression)>),
}

/// One line of values.
#[derive(Clone, Debug, PartialEq)]
pub enum LineLayout {
    /// Values between delimiters, quoted as in RFC 4180 where they hold the delimiter, a quote or a line break.
    Separated {
        /// Where the values come from.
        columns: Fields,
        /// What stands between them, one ASCII character.
        delimiter: u8,
    },
    /// Values between delimiters of several characters. Such a line has no quoting, so a value that holds the
    /// delimiter or a line break can't be sent.
    Joined {
        /// Where the values come from.
        columns: Fields,
        /// What stands between them.
        delimiter: Box<str>,
    },
    /// Every value in its own width, in characters: filled up with spaces, or cut.
    Fixed {
        /// Where the values come from, and their widths.
        columns: Vec<(Expression, usize)>,
    },
}

/// How a body is compressed (`content-encoding`, RFC 9110, section 8.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// `gzip`
    Gzip,
    /// `zstd` (RFC 8878)
    Zstd,
}
