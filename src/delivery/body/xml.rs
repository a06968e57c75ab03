//! Whether a text is one whole XML document (XML 1.0, section 2.1): the elements close as they opened, there is one that
//! holds all others, attributes are quoted and unique, and what begins with `&` is something. Namespaces are not looked at,
//! because hosts differ in whether they do; nor whether it is the document that the host expects.

use quick_xml::Reader;
use quick_xml::escape::{resolve_predefined_entity, unescape_with};
use quick_xml::events::{BytesStart, Event};

/// Refuses what is no such document.
///
/// # Errors
/// One sentence: what is wrong, in which line and column.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut reader = Reader::from_str(text);
    let mut document = Document::default();
    loop {
        let begins = reader.buffer_position();
        let (event, at) = match reader.read_event() {
            Ok(event) => (Ok(event), begins),
            Err(error) => (Err(error.to_string()), reader.error_position()),
        };
        let at = usize::try_from(at).unwrap_or(text.len());
        let taken = event.and_then(|event| match event {
            Event::Eof => document.end(text).map(|()| true),
            event => document.take(&event, at).map(|()| false),
        });
        match taken {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(wrong) => return Err(format!("{wrong} at {}", position(text, at))),
        }
    }
}

/// What has been seen of a document.
#[derive(Debug, Default)]
struct Document {
    /// Where the tags of the elements begin that are not closed yet.
    open: Vec<usize>,
    has_root: bool,
    /// It may declare entities of its own, which are then not looked at.
    has_doctype: bool,
}

impl Document {
    /// The next part, which begins at byte `at`.
    fn take(&mut self, event: &Event<'_>, at: usize) -> Result<(), String> {
        match event {
            Event::Start(tag) => {
                self.element(tag)?;
                self.open.push(at);
            }
            Event::Empty(tag) => self.element(tag)?,
            Event::End(_) => {
                self.open.pop();
            }
            // A byte order mark may stand before all.
            Event::Text(text) if text.trim_start_matches('\u{feff}').trim_ascii().is_empty() => {}
            Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) if self.open.is_empty() => {
                return Err("there is text outside of its root element".to_owned());
            }
            Event::GeneralRef(reference) if reference.is_char_ref() => {
                reference.resolve_char_ref().map_err(|error| error.to_string())?;
            }
            Event::GeneralRef(reference) if self.entity(reference).is_none() => {
                return Err(format!("nothing declares the entity &{};", &**reference));
            }
            Event::Decl(_) if at > 0 => {
                return Err("the XML declaration does not stand at the very beginning".to_owned());
            }
            Event::DocType(_) => self.has_doctype = true,
            Event::Text(_)
            | Event::CData(_)
            | Event::GeneralRef(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::Eof => {}
        }
        Ok(())
    }

    /// The tag that begins an element.
    fn element(&mut self, tag: &BytesStart<'_>) -> Result<(), String> {
        if self.open.is_empty() && std::mem::replace(&mut self.has_root, true) {
            return Err("there is a second root element".to_owned());
        }
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|error| error.to_string())?;
            if attribute.value.contains('<') {
                return Err(format!("the attribute {} holds a <", attribute.key.as_ref()));
            }
            unescape_with(&attribute.value, |name| self.entity(name)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// What an entity stands for; nothing is known of those that the document may have declared.
    fn entity(&self, name: &str) -> Option<&'static str> {
        resolve_predefined_entity(name).or(self.has_doctype.then_some(""))
    }

    fn end(&self, text: &str) -> Result<(), String> {
        if let Some(&at) = self.open.last() {
            let tag = text.get(at..).unwrap_or_default();
            let name = tag.split(|c: char| c.is_ascii_whitespace() || c == '>').next();
            let name = name.unwrap_or_default().trim_start_matches('<');
            return Err(format!("the element {name} is not closed"));
        }
        if !self.has_root {
            return Err("there is no element".to_owned());
        }
        Ok(())
    }
}

/// Line and column of byte `at`, both from 1.
fn position(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line} column {column}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2_documents_are_whole() {
        for whole in [
            "<a/>",
            "\u{feff}<?xml version=\"1.0\"?>\n<!-- c --><a b='1' c=\"&lt;&#9;\"><b>x &amp; &#x20AC;</b><b/></a>\n",
            "<l:a><l:b>no namespace is declared</l:b></l:a>",
            "<a><![CDATA[<b> & ]]></a>",
            "<!DOCTYPE a [<!ENTITY own \"x\">]><a b=\"&own;\">&own;</a>",
            "<a><?go on?>  </a>",
        ] {
            assert_eq!(check(whole), Ok(()), "{whole}");
        }
        for (broken, expected) in [
            ("", "there is no element at line 1 column 1"),
            (
                "text",
                "there is text outside of its root element at line 1 column 1",
            ),
            ("<a>\n<b>x</a>", "line 2 column 5"),
            (
                "<a>\n  <b c='1'>",
                "the element b is not closed at line 2 column 12",
            ),
            ("<a></b>", "at line 1 column 4"),
            ("</a>", "at line 1 column 1"),
            ("<a/><b/>", "there is a second root element at line 1 column 5"),
            (
                "<a/>x",
                "there is text outside of its root element at line 1 column 5",
            ),
            ("<a/>&amp;", "there is text outside of its root element"),
            ("<a/>&#65;", "there is text outside of its root element"),
            ("<a>é & b</a>", "at line 1 column 6"),
            (
                "<a>&nbsp;</a>",
                "nothing declares the entity &nbsp; at line 1 column 4",
            ),
            ("<a b=\"&nbsp;\"/>", "nbsp"),
            ("<a b=1/>", "at line 1 column 1"),
            ("<a b='1' b='2'/>", "duplicated"),
            ("<a b='<'/>", "the attribute b holds a <"),
            (
                " <?xml version='1.0'?><a/>",
                "does not stand at the very beginning",
            ),
            ("<a", "at line 1 column 1"),
            ("<a>&#0;</a>", "at line 1 column 4"),
        ] {
            let wrong = check(broken).unwrap_err();
            assert!(wrong.contains(expected), "{broken}: {wrong}");
        }
    }
}
