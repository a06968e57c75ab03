//! The JSON Schema (draft 2020-12) of the configuration, for editors: which keys there are and what their
//! values look like, from the table of [`keys`](super::keys); what they are for and what they are when
//! nothing is written, from the comments and values of the shipped file. It refuses less than `posthaste
//! check` does and never more: what a value may be exactly is for its reader to say. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::keys::{self, Kind, Section};

/// The configuration as it is shipped: its comments are the documentation of the keys.
const SHIPPED: &str = include_str!("../../config.toml");

/// Where a reference to a secret may stand instead of what a string has to look like.
const REFERENCE: &str = r"\$\{(env|file|cred):";

/// The schema of config.toml, and of the files that it includes.
#[must_use]
pub fn schema() -> Value {
    let mut writer = Writer {
        documented: documented(),
        sections: BTreeMap::new(),
    };
    let mut file = writer.section(&keys::FILE);
    file["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    file["title"] = "posthaste configuration".into();
    file["$defs"] = writer.sections.into_iter().collect();
    file
}

/// What the shipped file says of a key.
#[derive(Debug, Default)]
struct Documented {
    /// The comment above it.
    text: String,
    /// What is written there, unless that is only an example.
    default: Option<Value>,
}

struct Writer {
    /// By section and key.
    documented: BTreeMap<(String, String), Documented>,
    /// The schemas of sections met so far, by name.
    sections: BTreeMap<String, Value>,
}

impl Writer {
    fn section(&mut self, section: &'static Section) -> Value {
        let mut properties = Map::new();
        for (key, kind) in section.keys {
            if let Some(mut property) = self.kind(kind) {
                self.document(section.name, key, &mut property);
                properties.insert((*key).to_owned(), property);
            }
        }
        json!({ "type": "object", "additionalProperties": false, "properties": properties })
    }

    /// A reference to the section's schema, which is written once.
    fn reference(&mut self, section: &'static Section) -> Value {
        if !self.sections.contains_key(section.name) {
            let schema = self.section(section);
            self.sections.insert(section.name.to_owned(), schema);
        }
        json!({ "$ref": format!("#/$defs/{}", section.name) })
    }

    /// What stands at a key of this kind; `None`: the key is of no use yet.
    fn kind(&mut self, kind: &Kind) -> Option<Value> {
        Some(match kind {
            Kind::NotYet => return None,
            Kind::Plain => json!({}),
            Kind::Map => json!({ "type": "object" }),
            // An element may be a table: a secret with the time until it signs, say.
            Kind::Private => {
                json!({ "type": ["string", "array"], "items": { "type": ["string", "object"] } })
            }
            Kind::PrivateMap => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            Kind::Table(section) => self.reference(section),
            Kind::Tables(section) => json!({ "type": "array", "items": self.reference(section) }),
            Kind::NumberOr(section) => {
                json!({ "anyOf": [{ "type": "integer", "minimum": 1 }, self.reference(section)] })
            }
            Kind::List(of) => json!({ "type": "array", "items": self.kind(of)? }),
            Kind::AnyOf(kinds) => {
                let kinds: Option<Vec<Value>> = kinds.iter().map(|kind| self.kind(kind)).collect();
                json!({ "anyOf": kinds? })
            }
            Kind::Text => json!({ "type": "string" }),
            Kind::Flag => json!({ "type": "boolean" }),
            Kind::Count(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Kind::Number(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
            Kind::Word(words) => {
                json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": REFERENCE }] })
            }
            Kind::Duration => pattern(r"^[0-9].*[a-z:]"),
            Kind::Size => pattern(r"^[0-9]+(\.[0-9]+)? *([kKmMgGtTpPeE]i?)?[bB]?$"),
            Kind::Share => pattern(r"^[0-9]+(\.[0-9]+)? *%$"),
            Kind::Mode => pattern("^[0-7]{3,4}$"),
        })
    }

    fn document(&self, section: &str, key: &str, property: &mut Value) {
        let place = (section.to_owned(), key.to_owned());
        let Some(documented) = self.documented.get(&place) else {
            return;
        };
        if !documented.text.is_empty() {
            property["description"] = documented.text.clone().into();
        }
        if let Some(default) = &documented.default {
            property["default"] = default.clone();
        }
    }
}

/// A string that looks like this, or refers to a secret.
fn pattern(text: &str) -> Value {
    json!({ "type": "string", "pattern": format!("{REFERENCE}|{text}") })
}

/// The comments and the values of the shipped file, by section and key. Lines that begin with `#` and no
/// space are examples: they are documented, but what they hold is no default.
fn documented() -> BTreeMap<(String, String), Documented> {
    let values: toml::Table = SHIPPED.parse().unwrap_or_default();
    let mut found = BTreeMap::new();
    let (mut section, mut comment) = (String::new(), String::new());
    let mut is_begun = false;
    for line in SHIPPED.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            if !is_begun {
                comment.clear();
            }
            is_begun = true;
            comment.push_str(if comment.is_empty() { "" } else { " " });
            comment.push_str(text.trim());
            continue;
        }
        is_begun = false;
        let example = line.strip_prefix('#');
        let line = example.unwrap_or(line);
        if line.is_empty() {
            comment.clear();
        } else if let Some(header) = line.strip_prefix('[') {
            let name = header.trim_matches(['[', ']']);
            // Keys without a comment of their own share that of their section.
            document_section(&mut found, name, &comment);
            section = name.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ") {
            // Neighbours that share one comment each get it.
            let default = example
                .is_none()
                .then(|| value_at(&values, &section, key))
                .flatten();
            let place = (as_endpoint(&section), key.to_owned());
            let entry: &mut Documented = found.entry(place).or_default();
            if entry.text.is_empty() {
                entry.text.clone_from(&comment);
            }
            entry.default = entry.default.take().or(default);
        }
    }
    found
}

/// A comment above a header is about the key that holds the section.
fn document_section(found: &mut BTreeMap<(String, String), Documented>, name: &str, text: &str) {
    let name = if name == "defaults" {
        name.to_owned()
    } else {
        as_endpoint(name)
    };
    let (section, key) = name.rsplit_once('.').unwrap_or(("", &name));
    let entry = found.entry((section.to_owned(), key.to_owned())).or_default();
    if entry.text.is_empty() {
        text.clone_into(&mut entry.text);
    }
}

/// `[defaults.retry]` holds the keys of `[endpoint.retry]`.
fn as_endpoint(section: &str) -> String {
    match section.strip_prefix("defaults") {
        Some(rest) => format!("endpoint{rest}"),
        None => section.to_owned(),
    }
}

fn value_at(values: &toml::Table, section: &str, key: &str) -> Option<Value> {
    let table = section
        .split('.')
        .filter(|name| !name.is_empty())
        .try_fold(values, |table, name| table.get(name)?.as_table())?;
    serde_json::to_value(table.get(key)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I8: every key that works stands in the schema, with what it is for.
    #[test]
    fn i8_every_key_is_described() {
        let schema = schema();
        let store = &schema["$defs"]["store"]["properties"];
        assert_eq!(store["dedup_window"]["default"], "24h");
        assert!(
            store["dedup_window"]["description"]
                .as_str()
                .is_some_and(|text| text.contains("`duplicate`")),
            "{store}"
        );
        let mut silent = Vec::new();
        let sections = schema["$defs"].as_object().unwrap();
        for (name, section) in sections {
            for (key, property) in section["properties"].as_object().unwrap() {
                let is_table = property["$ref"].is_string();
                if !is_table && property["description"].as_str().is_none_or(str::is_empty) {
                    silent.push(format!("{name}.{key}"));
                }
            }
        }
        // Explained where the other ways of writing it are.
        silent.retain(|key| !key.starts_with("endpoint.concurrency.") && key != "endpoint.retry.delay");
        assert_eq!(
            silent,
            Vec::<String>::new(),
            "no comment in config.toml is above them"
        );
    }
}
