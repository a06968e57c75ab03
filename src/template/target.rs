//! Where a rendered text goes, and what that asks of the values printed into it: the escaping, and what can't stand
//! there however it is escaped.

use super::limits::{BODY_BYTES_MAX, LINE_BYTES_MAX};

/// What a template makes; printed values are escaped for it, so that they can't break out of their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Text in which nothing has a meaning: plain bodies, and every value that is encoded as a whole by whoever puts
    /// it into its line (query values, form values, fields of a CSV line).
    Text,
    /// A JSON document (RFC 8259). Inside quotes a value is printed as text, escaped; outside them as a JSON value.
    /// What comes out is checked to be JSON.
    Json,
    /// An XML document (XML 1.0). Values stand in text, in quoted attributes and in CDATA sections, nowhere else.
    Xml,
    /// A whole URL. Values are percent-encoded (RFC 3986, section 2.1), so one value is one path segment or one part
    /// of the query; a value from `vars` or `secrets` at the very beginning is the base address and stands as it is.
    Url,
    /// The value of an HTTP header (RFC 9110, section 5.5): one line.
    Header,
}

impl Target {
    /// The longest text of this kind, in bytes.
    pub(super) fn bytes_max(self) -> usize {
        match self {
            Self::Text | Self::Json | Self::Xml => BODY_BYTES_MAX,
            Self::Url | Self::Header => LINE_BYTES_MAX,
        }
    }

    /// Why `text` can't be printed here, whatever stands around it.
    pub(super) fn refuses(self, text: &str) -> Option<String> {
        let (character, place) = match self {
            Self::Text | Self::Json | Self::Url => return None,
            Self::Xml => (text.chars().find(|c| !is_xml_char(*c)), "XML"),
            Self::Header => (text.chars().find(|c| c.is_control() && *c != '\t'), "a header"),
        };
        character.map(|c| {
            format!(
                "a value holds the character U+{:04X}, which {place} can't carry",
                u32::from(c)
            )
        })
    }
}

/// `Char` of XML 1.0, section 2.2.
fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}
