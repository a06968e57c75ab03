//! Where a rendering is written: a bounded buffer that knows where in the document it stands, so that each printed
//! value is escaped for its place. The engine hands over literal text and printed values through one pipe; the
//! formatter marks the values, and literal text never begins with a mark because sources may not hold U+0000.

use std::io;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::target::Target;
use super::value::{escape_json, quote};
use super::xml::XmlPlace;

/// The first byte of a printed value; the second says which kind.
pub(super) const MARK: char = '\0';
/// A printed text.
pub(super) const TEXT: char = 't';
/// A printed text that stands in JSON's quotes as it is: nothing in it needs an escape.
pub(super) const VERBATIM: char = 'v';
/// A printed value as JSON.
pub(super) const JSON: char = 'j';
/// Nothing was printed.
pub(super) const NOTHING: char = 'n';

/// Everything but the unreserved characters of RFC 3986, section 2.3.
pub(super) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The text so far and where it stands.
pub(super) struct Sink {
    text: String,
    bytes_max: usize,
    place: Place,
}

/// Where in the document the next byte goes. Only literal text changes it, never a value.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Plain,
    Json { in_string: bool, after_backslash: bool },
    Xml(XmlPlace),
    Url { base_from_config: bool },
}

impl Place {
    /// The beginning of a document. `base_from_config`: a URL begins with a value of the operator's own.
    pub(super) fn begin(target: Target, base_from_config: bool) -> Self {
        match target {
            Target::Text | Target::Header => Self::Plain,
            Target::Json => Self::Json {
                in_string: false,
                after_backslash: false,
            },
            Target::Xml => Self::Xml(XmlPlace::default()),
            Target::Url => Self::Url { base_from_config },
        }
    }

    /// Goes on over literal `text`.
    pub(super) fn advance(&mut self, text: &str) {
        match self {
            Self::Plain | Self::Url { .. } => {}
            Self::Json {
                in_string,
                after_backslash,
            } => {
                for byte in text.bytes() {
                    match byte {
                        _ if *after_backslash => *after_backslash = false,
                        b'"' => *in_string = !*in_string,
                        b'\\' => *after_backslash = *in_string,
                        _ => {}
                    }
                }
            }
            Self::Xml(place) => place.advance(text),
        }
    }
}

impl Sink {
    /// An empty text of about so many `bytes` to come, whose beginning is `place`.
    pub(super) fn new(target: Target, place: Place, bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes.min(target.bytes_max())),
            bytes_max: target.bytes_max(),
            place,
        }
    }

    /// What was written.
    ///
    /// # Errors
    /// When the document ends in the middle of something.
    pub(super) fn finish(self) -> Result<String, String> {
        match self.place {
            Place::Xml(place) if place != XmlPlace::Text => {
                Err("what it makes ends inside a tag, a comment or a section".to_owned())
            }
            _ => Ok(self.text),
        }
    }

    /// Appends a piece of the document as it is.
    ///
    /// # Errors
    /// The text becomes too long.
    pub(super) fn text(&mut self, text: &str) -> Result<(), String> {
        let mut place = self.place;
        place.advance(text);
        self.text_up_to(text, place)
    }

    /// Appends a piece of the document as it is, of which it is known that it leads to `place`.
    ///
    /// # Errors
    /// The text becomes too long.
    pub(super) fn text_up_to(&mut self, text: &str, place: Place) -> Result<(), String> {
        self.text.push_str(text);
        self.place = place;
        self.checked()
    }

    /// Appends a value of `kind`, escaped for its place.
    ///
    /// # Errors
    /// It can't stand there, or the text becomes too long.
    pub(super) fn printed(&mut self, kind: char, value: &str) -> Result<(), String> {
        self.value(kind, value)?;
        self.checked()
    }

    fn checked(&self) -> Result<(), String> {
        match self.text.len() > self.bytes_max {
            true => Err(format!("the text is longer than {} bytes", self.bytes_max)),
            false => Ok(()),
        }
    }

    fn value(&mut self, kind: char, value: &str) -> Result<(), String> {
        match self.place {
            Place::Plain => self.text.push_str(value),
            Place::Json {
                after_backslash: true,
                ..
            } => return Err("a value is printed right after a backslash; write \\\\ for one".to_owned()),
            Place::Json { in_string: true, .. } if kind == VERBATIM => self.text.push_str(value),
            Place::Json { in_string: true, .. } => escape_json(value, &mut self.text),
            Place::Json { .. } => match kind {
                VERBATIM => self.text.extend(["\"", value, "\""]),
                TEXT => quote(value, &mut self.text),
                NOTHING => self.text.push_str("null"),
                _ => self.text.push_str(value),
            },
            Place::Xml(place) => place.print(value, &mut self.text)?,
            Place::Url { base_from_config } if base_from_config && self.text.is_empty() => {
                self.text.push_str(value);
            }
            Place::Url { .. } => self.text.extend(utf8_percent_encode(value, ENCODED)),
        }
        Ok(())
    }
}

impl io::Write for Sink {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        self.write_all(chunk)?;
        Ok(chunk.len())
    }

    fn write_all(&mut self, chunk: &[u8]) -> io::Result<()> {
        let chunk = std::str::from_utf8(chunk).map_err(io::Error::other)?;
        let mut rest = chunk.chars();
        let written = match (rest.next(), rest.next()) {
            (Some(MARK), Some(kind)) => self.printed(kind, rest.as_str()),
            _ => self.text(chunk),
        };
        written.map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why `url` must not be sent although every value in it was encoded: a segment that a printed value turned into
/// `.` or `..` makes URL parsers climb (RFC 3986, section 5.2.4), encoded or not.
pub(super) fn climbing_segment(url: &str) -> Option<&str> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    path.split(['/', '\\']).skip(1).find(|segment| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    })
}
