//! `[[endpoint.test]]`: cases for `posthaste test`.

use crate::config::keys;
use crate::config::language::{self, Names};
use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::{CannedAnswer, SavedCase};

/// One case; `bind` is the endpoint's second name for data, `steps` are its steps.
pub(super) fn case(table: &Table<'_>, bind: &str, steps: &[Box<str>]) -> Option<SavedCase> {
    for key in ["name", "event", "expect"] {
        if !table.has(key) {
            table.missing(key);
        }
    }
    let names = Names::with(bind, &["outcome", "error_class", "response"]);
    let name = table.read("name", values::text);
    let event = table.read("event", event);
    let expect = table.read("expect", language::expression(&names));
    let steps = canned(table, steps);
    Some(SavedCase {
        name: name?.into(),
        event: event?.into(),
        expect: expect?,
        steps,
    })
}

/// The answers that steps get, each `{ status = 200, body = … }`.
fn canned(table: &Table<'_>, steps: &[Box<str>]) -> Vec<CannedAnswer> {
    let mut found = Vec::new();
    for (place, name, value) in table.entries("steps") {
        if !steps.iter().any(|step| **step == *name) {
            let help = match steps {
                [] => "the endpoint has no steps".to_owned(),
                known => format!("its steps are {}", known.join(", ")),
            };
            value.reject_at(&place, &Wrong::whole(format!("there is no step {name:?}"), help));
        }
        if let Some(table) = value.as_table(&keys::CANNED) {
            found.push(answer(&table, name));
        } else {
            let wrong = value.wrong_type("a table");
            value.reject(&wrong.or_write("write it like { status = 200, body = { valid = true } }"));
        }
    }
    found
}

fn answer(table: &Table<'_>, step: &str) -> CannedAnswer {
    let status = table.read("status", values::count(100..=599)).unwrap_or(200);
    let is_json = table.value("body").is_some_and(|body| body.is_table());
    let body = table.read("body", |value| match value.is_table() {
        true => value.json().map(|json| json.to_string()),
        false => values::text(value),
    });
    CannedAnswer {
        step: step.into(),
        status: u16::try_from(status).unwrap_or(200),
        body: body.unwrap_or_default().into(),
        is_json,
    }
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
