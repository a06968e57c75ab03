//! Where the parts of a JSON text stand (RFC 8259), without reading what they say: made for events, which have been read
//! as a whole when they were accepted. It finds where things end; what is wrong inside them is for whoever reads them.

use std::ops::Range;

use memchr::memchr2;

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

    /// Goes behind the string that comes next; returns where it stands, quotes included.
    pub(super) fn string(&mut self) -> Option<Range<usize>> {
        self.take(b'"')?;
        let begin = self.at - 1;
        loop {
            self.at += memchr2(b'"', b'\\', self.json.get(self.at..)?)?;
            if self.json.get(self.at) == Some(&b'"') {
                self.at += 1;
                return Some(begin..self.at);
            }
            // A backslash, and what it escapes.
            self.at += 2;
        }
    }

    /// Goes behind the value that comes next; returns where it stands.
    pub(super) fn value(&mut self) -> Option<Range<usize>> {
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
        (self.at > begin).then_some(begin..self.at)
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
            assert_eq!(found.map(|at| &text[at]), Some(value), "{text}");
        }
        for text in [
            "", " ", ",", "}", ":", "\"", "\"a", "\"a\\", "\"a\\\"", "{", "[[]", "{\"", "{\"}",
        ] {
            assert_eq!(Cursor::new(text.as_bytes()).value(), None, "{text}");
        }
    }
}
