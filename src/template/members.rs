//! Events as values, without parsing what no template asks for: of the event and of its `data`, only the names of the
//! members are read at first. Below that, and where there are many members, all is parsed at once.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use memchr::memchr;
use minijinja::value::{Enumerator, Object};
use minijinja::{ErrorKind, Value};

use super::cursor::Cursor;

/// Objects with more members are parsed at once: names are looked for one after the other.
const MEMBERS_MAX: usize = 32;
/// So many are expected.
const EXPECTED: usize = 16;
/// The event, and its `data`.
const LEVELS: u8 = 2;

/// The value of `json`; undefined if it is not JSON.
pub(super) fn value(json: Bytes) -> Value {
    at(json, LEVELS)
}

/// The member `name` of `value`, if its members are read one by one.
pub(super) fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let members = value.downcast_object_ref::<Members>()?;
    Some(members.read_at(members.member(name)?))
}

/// The text that `path` leads to in `value`, as it is written; `None`: it is not there, is no text, is written with
/// escapes, or lies deeper than is read by members.
pub(super) fn text<'a>(value: &'a Value, path: &[Box<str>]) -> Option<&'a str> {
    match path {
        [] => None,
        [name] => {
            let members = value.downcast_object_ref::<Members>()?;
            members.written(members.member(name)?)
        }
        [name, below @ ..] => text(member(value, name)?, below),
    }
}

fn at(json: Bytes, levels: u8) -> Value {
    match json.first() {
        Some(b'{') if levels > 0 => match Members::read(&json, levels) {
            Some(members) => Value::from_object(members),
            None => whole(&json),
        },
        _ => whole(&json),
    }
}

fn whole(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_default()
}

/// JSON whose form is right (RFC 8259 bounds neither depth nor numbers) and that is more than is read.
fn unreadable() -> Value {
    let says = "what the event holds here can't be read: it nests too deep, or a number or an escape is out of range";
    Value::from(minijinja::Error::new(ErrorKind::BadSerialization, says))
}

/// An object whose members are parsed when they are asked for.
struct Members {
    json: Bytes,
    levels: u8,
    /// In the order in which they were written; each name once.
    list: Vec<Member>,
}

struct Member {
    name: Value,
    at: Range<usize>,
    parsed: OnceLock<Value>,
}

/// Adds a member to `list`; the last one of a name counts, as everywhere. `None`: they are too many.
fn put(list: &mut Vec<Member>, name: Value, at: Range<usize>) -> Option<()> {
    match list.iter().position(|known| known.name.as_str() == name.as_str()) {
        Some(known) => list.get_mut(known)?.at = at,
        None if list.len() >= MEMBERS_MAX => return None,
        None => list.push(Member {
            name,
            at,
            parsed: OnceLock::new(),
        }),
    }
    Some(())
}

/// The name that stands in `quoted`.
fn name(quoted: &[u8]) -> Option<Value> {
    let written = quoted.get(1..quoted.len().checked_sub(1)?)?;
    match memchr(b'\\', written) {
        None => std::str::from_utf8(written).ok().map(Value::from),
        Some(_) => serde_json::from_slice::<String>(quoted).ok().map(Value::from),
    }
}

/// What an event holds may be private.
impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[object]")
    }
}

impl Members {
    /// `None`: it is no object, not JSON, or has too many members.
    fn read(json: &Bytes, levels: u8) -> Option<Self> {
        let mut list = Vec::with_capacity(EXPECTED);
        let mut cursor = Cursor::new(json);
        cursor.take(b'{')?;
        if cursor.take(b'}').is_none() {
            loop {
                let name = name(json.get(cursor.string()?)?)?;
                cursor.take(b':')?;
                put(&mut list, name, cursor.value()?)?;
                if cursor.take(b',').is_none() {
                    break;
                }
            }
            cursor.take(b'}')?;
        }
        cursor.is_at_end().then(|| Self {
            json: json.clone(),
            levels,
            list,
        })
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.list.iter().find(|member| member.name.as_str() == Some(name))
    }

    /// What can't be read is a value that fails whoever uses it: taken for missing, it would be printed as nothing.
    fn read_at<'a>(&self, member: &'a Member) -> &'a Value {
        member
            .parsed
            .get_or_init(|| match at(self.json.slice(member.at.clone()), self.levels - 1) {
                value if value.is_undefined() => unreadable(),
                value => value,
            })
    }

    /// The text that `member` is, if it stands between its quotes as it is.
    fn written(&self, member: &Member) -> Option<&str> {
        let text = self
            .json
            .get(member.at.clone())?
            .strip_prefix(b"\"")?
            .strip_suffix(b"\"")?;
        match memchr(b'\\', text) {
            None => std::str::from_utf8(text).ok(),
            Some(_) => None,
        }
    }
}

impl Object for Members {
    fn get_value(self: &Arc<Self>, name: &Value) -> Option<Value> {
        self.get_value_by_str(name.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<Value> {
        self.member(name).map(|member| self.read_at(member).clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.list.iter().map(|member| member.name.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{from_json, to_json_text};

    /// C4: whatever an event looks like, it is the same value as one that is parsed at once.
    #[test]
    fn c4_members_are_the_same_however_they_are_read() {
        let many: Vec<String> = (0..100).map(|n| format!("\"m{n}\":{n}")).collect();
        let many = format!("{{\"data\":{{{}}}}}", many.join(","));
        let deep = format!("{{\"data\":{}1{}}}", "{\"a\":".repeat(100), "}".repeat(100));
        for text in [
            "{}",
            " { \"a\" : 1 , \"data\" : { \"b\" : [ 1, 2.5, null, true ] , \"\\u00fc\\n\" : \"\\\"\" } } ",
            r#"{"a":1,"b":2,"a":{"c":3}}"#,
            r#"{"data":{"x":9007199254740993,"y":-0.5e-7,"z":"ü"},"id":"e"}"#,
            r#"{"data":[{"a":{"b":{}}}],"none":null}"#,
            &many,
            &deep,
        ] {
            let lazy = value(Bytes::copy_from_slice(text.as_bytes()));
            let whole: Value = serde_json::from_str(text).unwrap();
            assert_eq!(
                to_json_text(&lazy).unwrap(),
                to_json_text(&whole).unwrap(),
                "{text}"
            );
            assert_eq!(lazy, whole, "{text}");
            assert_eq!((lazy.len(), lazy.kind()), (whole.len(), whole.kind()), "{text}");
            assert_eq!(
                serde_json::to_string(&lazy).unwrap(),
                serde_json::to_string(&whole).unwrap()
            );
            assert_eq!(from_json(serde_json::to_value(&lazy).unwrap()), whole, "{text}");
        }
        for text in [
            r#"{"id":"e","data":{"a":1e999,"b":1}}"#,
            r#"{"id":"e","data":{"a":"\ud800","b":1}}"#,
            &format!(
                r#"{{"id":"e","data":{{"a":{}{},"b":1}}}}"#,
                "[".repeat(200),
                "]".repeat(200)
            ),
        ] {
            let scope = crate::template::Scope::new(Bytes::copy_from_slice(text.as_bytes()), 0);
            let render = |template| {
                let template = crate::template::Template::compile(template, crate::template::Target::Text);
                template.unwrap().render(&scope)
            };
            assert_eq!(
                render("{{ event.id }} {{ data.b }}").unwrap(),
                "e 1",
                "{text:.50}"
            );
            for failing in [
                "{{ data.a }}",
                "{{ data }}",
                "{{ data|tojson }}",
                "{{ data.a or 1 }}",
            ] {
                let error = render(failing).unwrap_err();
                assert!(error.says.contains("can't be"), "{failing} {text:.50}: {error}");
            }
        }
        for text in [
            "",
            "{",
            "nothing",
            "{\"a\":}",
            "{\"a\":1} x",
            "{\"a\":1,}",
            "{,}",
            "{\"a\" 1}",
            "{\"a\":1 2}",
            "{a:1}",
        ] {
            assert!(
                value(Bytes::copy_from_slice(text.as_bytes())).is_undefined(),
                "{text}"
            );
        }
    }
}
