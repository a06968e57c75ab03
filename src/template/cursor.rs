//! Where the parts of a JSON text stand (RFC 8259), without reading what they say: made for events, which have been read
//! as a whole when they were accepted. It finds where things end; what is wrong inside them is for whoever reads them.

use memchr::memchr2;

/// From one place in a JSON text to another, both below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    begin: u32,
    end: u32,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// With its quotes, if it has some.
    pub at: Span,
    /// Whether it is a text that stands between its quotes as it is, without escapes.
    pub is_verbatim: bool,
}

impl Span {
    /// `None`: that is beyond 4 GiB.
    fn new(begin: usize, end: usize) -> Option<Self> {
        Some(Self {
            begin: u32::try_from(begin).ok()?,
            end: u32::try_from(end).ok()?,
        })
    }

    /// What stands there in `json`.
    pub(super) fn of(self, json: &[u8]) -> &[u8] {
        json.get(self.begin as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// In bytes.
    pub(super) fn len(self) -> usize {
        self.end.saturating_sub(self.begin) as usize
    }
}

impl Spot {
    /// Where the text stands, without quotes; `None`: it is none, or has escapes.
    pub(super) fn verbatim(self) -> Option<Span> {
        self.is_verbatim.then_some(Span {
            begin: self.at.begin + 1,
            end: self.at.end - 1,
        })
    }
}

/// A place in a JSON text, which moves on.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Before all of `json`.
    pub(super) fn new(json: &'a [u8]) -> Self {
        Self { json, at: 0 }
    }

    /// Whether there is nothing more.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.space();
        self.at >= self.json.len()
    }

    /// Goes behind `byte`, if that comes next.
    pub(super) fn take(&mut self, byte: u8) -> Option<()> {
        self.space();
        let found = self.json.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found.then_some(())
    }

    /// Goes behind the string that comes next.
    pub(super) fn string(&mut self) -> Option<Spot> {
        self.take(b'"')?;
        let begin = self.at - 1;
        let mut is_verbatim = true;
        loop {
            self.at += memchr2(b'"', b'\\', self.json.get(self.at..)?)?;
            if self.json.get(self.at) == Some(&b'"') {
                self.at += 1;
                let at = Span::new(begin, self.at)?;
                return Some(Spot { at, is_verbatim });
            }
            // A backslash, and what it escapes.
            self.at += 2;
            is_verbatim = false;
        }
    }

    /// Goes behind the value that comes next.
    pub(super) fn value(&mut self) -> Option<Spot> {
        self.space();
        let begin = self.at;
        match self.json.get(begin)? {
            b'"' => return self.string(),
            b'{' | b'[' => self.nested()?,
            _ => {
                let is_end = |byte: &u8| matches!(byte, b',' | b':' | b'}' | b']') || is_space(*byte);
                let rest = self.json.get(begin..)?;
                self.at += rest.iter().position(is_end).unwrap_or(rest.len());
            }
        }
        let at = Span::new(begin, self.at)?;
        let is_verbatim = false;
        (self.at > begin).then_some(Spot { at, is_verbatim })
    }

    /// Goes to where `other` is in the same text; returns what lies between.
    pub(super) fn up_to(&mut self, other: &Self) -> Option<Spot> {
        let at = Span::new(self.at, other.at)?;
        self.at = other.at;
        let is_verbatim = false;
        Some(Spot { at, is_verbatim })
    }

    /// Goes behind the list or object that begins here.
    fn nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            let is_mark = |byte: &u8| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']');
            self.at += self.json.get(self.at..)?.iter().position(is_mark)?;
            match self.json.get(self.at)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                _ => depth -= 1,
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn space(&mut self) {
        while self.json.get(self.at).is_some_and(|byte| is_space(*byte)) {
            self.at += 1;
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end_where_they_end() {
        for (text, value) in [
            (r#""a" , 1"#, r#""a""#),
            (r#" "a\"b\\" "#, r#""a\"b\\""#),
            ("-1.5e7,", "-1.5e7"),
            ("true}", "true"),
            ("null", "null"),
            (
                r#"{"a":[1,{"b":"}]\"{"}],"c":{}}]"#,
                r#"{"a":[1,{"b":"}]\"{"}],"c":{}}"#,
            ),
            ("[ ] x", "[ ]"),
        ] {
            let found = Cursor::new(text.as_bytes()).value();
            let is_verbatim = value.starts_with('"') && !value.contains('\\');
            assert_eq!(found.map(|spot| spot.is_verbatim), Some(is_verbatim), "{text}");
            let stands = found.map(|spot| spot.at.of(text.as_bytes()));
            assert_eq!(stands, Some(value.as_bytes()), "{text}");
        }
        for text in [
            "", " ", ",", "}", ":", "\"", "\"a", "\"a\\", "\"a\\\"", "{", "[[]", "{\"", "{\"}",
        ] {
            assert_eq!(Cursor::new(text.as_bytes()).value(), None, "{text}");
        }
    }
}
