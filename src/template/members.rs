//! JSON as values, without reading what no template asks for: of an object and of the objects in it, as of an event and
//! its `data`, only where the members stand is found out at first. Below that, and where there are many members, all is
//! parsed at once.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use minijinja::value::{Enumerator, Object};
use minijinja::{ErrorKind, Value};

use super::cursor::{Cursor, Span, Spot};

/// Objects with more members are parsed at once: names are looked for one after the other.
const MEMBERS_MAX: usize = 32;
/// So many are expected: what they take is still a small piece of memory, of which allocators are quick.
const EXPECTED: usize = 12;
/// Longer integers are read and printed by the engine.
const DIGITS_MAX: usize = 15;
/// An object, and those in it.
const LEVELS: u8 = 2;

/// The value of `json`, which was seen to be JSON before; undefined if it is not.
pub(super) fn value(json: Bytes) -> Value {
    let mut cursor = Cursor::new(&json);
    match Members::read(&json, &mut cursor, LEVELS) {
        Some(members) if cursor.is_at_end() => Value::from_object(members),
        _ => whole(&json),
    }
}

/// The value of `json`.
///
/// # Errors
/// Why it is not JSON, and where.
pub fn json_value(json: Bytes) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<serde::de::IgnoredAny>(&json)?;
    Ok(value(json))
}

/// The member `name` of `value`, if its members are read one by one.
pub(super) fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let members = value.downcast_object_ref::<Members>()?;
    Some(members.read_at(members.member(name)?))
}

/// What is printed as it is written.
pub(super) enum Written<'a> {
    /// Without escapes.
    Text(&'a str),
    /// Of a few digits.
    Integer(&'a str),
}

/// What `path` leads to in `value`, as it is written; `None`: it is not there, is printed in another way, or lies deeper
/// than is read by members.
pub(super) fn written<'a>(value: &'a Value, path: &[Box<str>]) -> Option<Written<'a>> {
    let (name, way) = path.split_last()?;
    let mut value = value;
    for name in way {
        value = member(value, name)?;
    }
    let members = value.downcast_object_ref::<Members>()?;
    let member = members.member(name)?;
    match members.written(member) {
        Some(text) => Some(Written::Text(text)),
        None => integer(member.spot.at.of(&members.json)).map(Written::Integer),
    }
}

fn integer(json: &[u8]) -> Option<&str> {
    let is_short = |digits: &[u8]| digits.len() <= DIGITS_MAX && digits.iter().all(u8::is_ascii_digit);
    match json.strip_prefix(b"-").unwrap_or(json) {
        b"0" if json.len() > 1 => None,
        digits if is_short(digits) => std::str::from_utf8(json).ok(),
        _ => None,
    }
}

fn whole(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_default()
}

/// JSON whose form is right (RFC 8259 bounds neither depth nor numbers) and that is more than is read.
fn unreadable() -> Value {
    let says = "what is held here can't be read: it nests too deep, or a number or an escape is out of range";
    Value::from(minijinja::Error::new(ErrorKind::BadSerialization, says))
}

/// An object whose members are parsed when they are asked for.
struct Members {
    /// What it stands in.
    json: Bytes,
    /// In the order in which they were written; each name once.
    list: Vec<Member>,
}

struct Member {
    /// Without quotes.
    name: Span,
    spot: Spot,
    parsed: OnceLock<Value>,
}

/// Adds a member to `list`; the last one of a name counts, as everywhere. `None`: they are too many.
fn put(list: &mut Vec<Member>, member: Member, json: &[u8]) -> Option<()> {
    let name = member.name.of(json);
    match list.iter().position(|known| known.is_called(name, json)) {
        Some(known) => *list.get_mut(known)? = member,
        None if list.len() >= MEMBERS_MAX => return None,
        None => list.push(member),
    }
    Some(())
}

/// What an event holds may be private.
impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[object]")
    }
}

impl Members {
    /// Goes behind the object that begins at `cursor`. `None`: it is no object, not JSON, has too many members, or names
    /// that are written with escapes.
    fn read(json: &Bytes, cursor: &mut Cursor<'_>, levels: u8) -> Option<Self> {
        cursor.take(b'{')?;
        let mut list = Vec::with_capacity(EXPECTED);
        if cursor.take(b'}').is_none() {
            loop {
                let name = cursor.string()?.verbatim()?;
                cursor.take(b':')?;
                put(&mut list, Member::read(name, json, cursor, levels - 1)?, json)?;
                if cursor.take(b',').is_none() {
                    break;
                }
            }
            cursor.take(b'}')?;
        }
        let json = json.clone();
        Some(Self { json, list })
    }

    fn member(&self, name: &str) -> Option<&Member> {
        let is_it = |member: &&Member| member.is_called(name.as_bytes(), &self.json);
        self.list.iter().find(is_it)
    }

    /// What can't be read is a value that fails whoever uses it: taken for missing, it would be printed as nothing.
    fn read_at<'a>(&self, member: &'a Member) -> &'a Value {
        let parsed = || {
            if let Some(text) = self.written(member) {
                return Value::from(text);
            }
            let value = whole(member.spot.at.of(&self.json));
            if value.is_undefined() { unreadable() } else { value }
        };
        member.parsed.get_or_init(parsed)
    }

    /// The text that `member` is, if it stands between its quotes as it is.
    fn written(&self, member: &Member) -> Option<&str> {
        std::str::from_utf8(member.spot.verbatim()?.of(&self.json)).ok()
    }
}

impl Member {
    /// Goes behind the value that comes next at `cursor`. An object is gone through once only, whether or not somebody
    /// asks for what is in it.
    fn read(name: Span, json: &Bytes, cursor: &mut Cursor<'_>, levels: u8) -> Option<Self> {
        if levels > 0 {
            let mut inside = cursor.clone();
            if let Some(members) = Members::read(json, &mut inside, levels) {
                return Some(Self {
                    name,
                    spot: cursor.up_to(&inside)?,
                    parsed: OnceLock::from(Value::from_object(members)),
                });
            }
        }
        Some(Self {
            name,
            spot: cursor.value()?,
            parsed: OnceLock::new(),
        })
    }

    /// Most members that are not have a name of another length.
    fn is_called(&self, name: &[u8], json: &[u8]) -> bool {
        self.name.len() == name.len() && self.name.of(json) == name
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
        let names = self.list.iter().map(|member| member.name.of(&self.json));
        Enumerator::Values(
            names
                .map(|name| Value::from(String::from_utf8_lossy(name)))
                .collect(),
        )
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
