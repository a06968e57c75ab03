//! An event's JSON with other attributes in it, everything else byte for byte as it was. Pure.

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::answer;

/// The members of an object in their order.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Visitor<'de> for Members {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(self)
    }
}

/// The object `json` without the members `without`, and with text members set: those whose value is `None` are left
/// as they are.
///
/// # Errors
/// Says why when `json` is no object.
pub fn with_members(json: &[u8], without: &[&str], with: &[(&str, Option<&str>)]) -> Result<Vec<u8>, String> {
    let members = serde_json::Deserializer::from_slice(json)
        .deserialize_map(Members(Vec::new()))
        .map_err(|error| format!("it is no JSON object: {error}"))?
        .0;
    let is_set = |name: &str| {
        with.iter()
            .any(|(other, value)| *other == name && value.is_some())
    };
    let mut out = vec![b'{'];
    let mut member = |name: &str, value: &mut dyn FnMut(&mut Vec<u8>)| {
        if out.len() > 1 {
            out.push(b',');
        }
        answer::string(&mut out, name);
        out.push(b':');
        value(&mut out);
    };
    for (name, value) in &members {
        if !without.contains(&name.as_str()) && !is_set(name) {
            member(name, &mut |out| out.extend_from_slice(value.get().as_bytes()));
        }
    }
    for (name, value) in with {
        if let Some(value) = value {
            member(name, &mut |out| answer::string(out, value));
        }
    }
    out.push(b'}');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays_byte_for_byte() {
        for (json, expected) in [
            (
                r#"{ "type":"t", "data":{"n": 1e400,"x":[ 1 ]},"delay":"5m"}"#,
                r#"{"type":"t","data":{"n": 1e400,"x":[ 1 ]},"endpoint":"a,b"}"#,
            ),
            (
                r#"{"endpoint":"old","type":"a\u0041"}"#,
                r#"{"type":"a\u0041","endpoint":"a,b"}"#,
            ),
            ("{}", r#"{"endpoint":"a,b"}"#),
        ] {
            let with = [("endpoint", Some("a,b")), ("deliverat", None)];
            let out = with_members(json.as_bytes(), &["delay"], &with).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        assert!(with_members(b"[1]", &[], &[]).is_err());
    }
}
