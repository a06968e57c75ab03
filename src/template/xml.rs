//! Where in an XML document a value is printed, followed over the literal text around it (XML 1.0, fifth edition).

/// The place that the next byte goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum XmlPlace {
    /// Between tags.
    #[default]
    Text,
    /// Between `<` and `>`, outside quotes.
    Tag,
    /// In an attribute's value, up to this quote.
    Attribute(u8),
    /// `<!-- … -->`
    Comment,
    /// `<![CDATA[ … ]]>`
    Cdata,
    /// `<? … ?>`
    Instruction,
}

impl XmlPlace {
    /// Goes on over literal `text`.
    pub(super) fn advance(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            rest = self.step(rest);
        }
    }

    /// The text behind the next change of place.
    fn step<'t>(&mut self, text: &'t str) -> &'t str {
        let after = |end: &str| text.split_once(end).map(|(_, rest)| rest);
        let (next, rest) = match self {
            Self::Text => return self.open(text),
            Self::Tag => match text.find(['"', '\'', '>']) {
                Some(at) if text.as_bytes()[at] == b'>' => (Self::Text, Some(&text[at + 1..])),
                Some(at) => (Self::Attribute(text.as_bytes()[at]), Some(&text[at + 1..])),
                None => (Self::Tag, None),
            },
            Self::Attribute(quote) => (Self::Tag, after(char::from(*quote).encode_utf8(&mut [0; 4]))),
            Self::Comment => (Self::Text, after("-->")),
            Self::Cdata => (Self::Text, after("]]>")),
            Self::Instruction => (Self::Text, after("?>")),
        };
        if rest.is_some() {
            *self = next;
        }
        rest.unwrap_or("")
    }

    fn open<'t>(&mut self, text: &'t str) -> &'t str {
        let Some((_, rest)) = text.split_once('<') else {
            return "";
        };
        for (beginning, place) in [
            ("!--", Self::Comment),
            ("![CDATA[", Self::Cdata),
            ("?", Self::Instruction),
        ] {
            if let Some(rest) = rest.strip_prefix(beginning) {
                *self = place;
                return rest;
            }
        }
        *self = Self::Tag;
        rest
    }

    /// Appends `value`, escaped for this place.
    ///
    /// # Errors
    /// Says where values may stand when this is not such a place.
    pub(super) fn print(self, value: &str, xml: &mut String) -> Result<(), String> {
        match self {
            Self::Text | Self::Attribute(_) => {
                for c in value.chars() {
                    match c {
                        '&' => xml.push_str("&amp;"),
                        '<' => xml.push_str("&lt;"),
                        '>' => xml.push_str("&gt;"),
                        '"' => xml.push_str("&quot;"),
                        '\'' => xml.push_str("&apos;"),
                        // Readers turn these into spaces or line feeds unless they are written as references
                        // (sections 2.11 and 3.3.3).
                        '\r' => xml.push_str("&#13;"),
                        '\n' if self != Self::Text => xml.push_str("&#10;"),
                        '\t' if self != Self::Text => xml.push_str("&#9;"),
                        _ => xml.push(c),
                    }
                }
                Ok(())
            }
            Self::Cdata => {
                // A section can't hold its own end: it is closed and opened again wherever a `]` of the value might
                // become part of one, and first of all if the template itself has just written one.
                if xml.ends_with(']') {
                    xml.push_str("]]><![CDATA[");
                }
                xml.push_str(&value.replace(']', "]]]><![CDATA["));
                Ok(())
            }
            Self::Tag => Err("a value is printed inside a tag, outside quotes; put it in quotes".to_owned()),
            Self::Comment => {
                Err("a value is printed inside a comment; values stand in text and attributes".to_owned())
            }
            Self::Instruction => {
                Err("a value is printed inside <? … ?>; values stand in text and attributes".to_owned())
            }
        }
    }
}
