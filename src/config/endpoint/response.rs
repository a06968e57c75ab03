//! `[endpoint.response]`: what of an answer means delivered or rejected, and what is kept of it.

use crate::config::language::{self, Names, optional};
use crate::config::raw::{Table, Value};
use crate::config::values::{self, Wrong};
use crate::domain::endpoint::{Emit, ErrorFields, Parse, ResponsePolicy};
use crate::template::{Expression, Target};

const PARSES: &[(&str, Parse)] = &[
    ("auto", Parse::Auto),
    ("json", Parse::Json),
    ("xml", Parse::Xml),
    ("text", Parse::Text),
    ("none", Parse::None),
];

/// How an answer is read; `bind` is the second name of data.
pub(super) fn response(table: &Table<'_>, bind: &str) -> ResponsePolicy {
    let names = Names::with(bind, &["response"]);
    let expression = |key| table.read(key, optional(language::expression(&names))).flatten();
    ResponsePolicy {
        success_status: success_status(table),
        parse: table.read("parse", values::choice(PARSES)).unwrap_or_default(),
        success: expression("success"),
        rejected: expression("rejected"),
        capture: named(table, "capture", &names),
        error: error(&table.table("error"), bind),
        emit: emit(&table.table("emit"), bind),
    }
}

fn success_status(table: &Table<'_>) -> Vec<u16> {
    let items = table
        .value("success_status")
        .and_then(|list| list.items("write it like [200, 201]"));
    let status = |item: &Value<'_>| {
        item.read(values::count(100..=599))
            .and_then(|status| u16::try_from(status).ok())
    };
    items.unwrap_or_default().iter().filter_map(status).collect()
}

/// Of a batch whose answer speaks of each event, the parts may also be those of the `item`.
fn error(table: &Table<'_>, bind: &str) -> ErrorFields {
    let names = Names::with(bind, &["response", "item"]);
    let part = |key| table.read(key, optional(language::expression(&names))).flatten();
    ErrorFields {
        code: part("code"),
        message: part("message"),
        field: part("field"),
    }
}

fn emit(table: &Table<'_>, bind: &str) -> Option<Emit> {
    let names = Names::with(bind, &["response", "captured", "item"]);
    let kind = language::template(Target::Text, &names);
    let kind = table.read("type", optional(kind)).flatten();
    let data = named(table, "data", &names);
    if kind.is_none() && !data.is_empty() {
        let wrong = Wrong::whole("there is data but no type", "add type = …, or remove data");
        table.reject_key(&["data"], &wrong);
    }
    Some(Emit { kind: kind?, data })
}

/// The expressions at `key` with their names, in the order written; what an endpoint writes goes before its defaults.
fn named(table: &Table<'_>, key: &str, names: &Names<'_>) -> Vec<(Box<str>, Expression)> {
    let mut found: Vec<(Box<str>, Expression)> = Vec::new();
    for (place, name, value) in table.entries(key) {
        if !language::is_name(name) {
            let help = "use letters, digits and _, so that it can be written in templates";
            value.reject_at(&place, &Wrong::whole(format!("{name:?} is not a name"), help));
        }
        let expression = value.read(language::expression(names));
        if !found.iter().any(|(known, _)| **known == *name) {
            found.extend(expression.map(|expression| (name.into(), expression)));
        }
    }
    found
}
