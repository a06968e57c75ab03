//! `[[endpoint.test]]`: cases for `posthaste test`.

use crate::config::language::{self, Names};
use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::SavedCase;

/// One case; `bind` is the endpoint's second name for data.
pub(super) fn case(table: &Table<'_>, bind: &str) -> Option<SavedCase> {
    for key in ["name", "event", "expect"] {
        if !table.has(key) {
            table.missing(key);
        }
    }
    let names = Names::with(bind, &["outcome", "error_class", "response"]);
    let name = table.read("name", values::text);
    let event = table.read("event", event);
    let expect = table.read("expect", language::expression(&names));
    Some(SavedCase {
        name: name?.into(),
        event: event?.into(),
        expect: expect?,
    })
}

fn event(value: &Value<'_>) -> Read<String> {
    let text = values::text(value)?;
    let event: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    if event.get("type").is_some_and(serde_json::Value::is_string) {
        return Ok(text);
    }
    Err(Wrong::new(
        "is not an event as JSON",
        "write it like '{\"type\":\"contact.created\",\"data\":{}}'",
    ))
}
