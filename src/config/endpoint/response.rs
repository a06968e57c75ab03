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

/// What the rules for an answer may name.
#[derive(Clone, Copy)]
pub(super) struct Seen<'n> {
    /// The second name of data.
    pub bind: &'n str,
    /// The steps that have been there when the answer is judged.
    pub before: &'n [Box<str>],
    /// Those that have been there when values are kept of it.
    pub all: &'n [Box<str>],
}

/// How an answer is read.
pub(super) fn response(table: &Table<'_>, seen: Seen<'_>) -> ResponsePolicy {
    let names = Names::with(seen.bind, &["response"]).behind(seen.before);
    let expression = |key| table.read(key, optional(language::expression(&names))).flatten();
    ResponsePolicy {
        success_status: success_status(table),
        parse: table.read("parse", values::choice(PARSES)).unwrap_or_default(),
        success: expression("success"),
        rejected: expression("rejected"),
        capture: named(
            table,
            "capture",
            &Names::with(seen.bind, &["response"]).behind(seen.all),
        ),
        error: error(&table.table("error"), seen),
        emit: emit(&table.table("emit"), seen),
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
fn error(table: &Table<'_>, seen: Seen<'_>) -> ErrorFields {
    let names = Names::with(seen.bind, &["response", "item"]).behind(seen.before);
    let part = |key| table.read(key, optional(language::expression(&names))).flatten();
    ErrorFields {
        code: part("code"),
        message: part("message"),
        field: part("field"),
    }
}

fn emit(table: &Table<'_>, seen: Seen<'_>) -> Option<Emit> {
    let names = Names::with(seen.bind, &["response", "captured", "item"]).behind(seen.all);
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
pub(super) fn named(table: &Table<'_>, key: &str, names: &Names<'_>) -> Vec<(Box<str>, Expression)> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::effective;
    use crate::config::load::load_text;
    use crate::config::secrets::Secrets;
    use crate::config::{Loaded, Problems};
    use crate::domain::endpoint::Parse;

    fn read(lines: &str) -> Result<Loaded, Problems> {
        let text = format!("[[endpoint]]\nname = \"crm\"\nurl = \"https://a.example/\"\n{lines}\n");
        let variable = |_: &str| None;
        load_text(Path::new("config.toml"), text, &Secrets { variable: &variable })
    }

    /// E2 to E5, E7: the rules are read as written and shown so; nothing written is no rule.
    #[test]
    fn e2_rules_are_read_and_shown() {
        let loaded = read(
            "bind = \"lead\"\nbatch = { max_events = 2, items = \"response.list\" }\n[endpoint.response]\nparse = \"xml\"\n\
             rejected = \"response.no\"\ncapture = { id = \"response.id\" }\nerror = { code = \"item.code\" }\n\
             emit = { type = \"{{ lead.kind }}\", data = { id = \"captured.id\" } }",
        );
        let loaded = loaded.unwrap();
        let endpoint = &loaded.config.endpoints[0];
        assert_eq!(endpoint.response.parse, Parse::Xml);
        let shown = &effective(&loaded.config)["endpoint"][0];
        assert_eq!(shown["response"]["emit"]["data"]["id"], "captured.id");
        assert_eq!(shown["response"]["error"]["code"], "item.code");
        assert_eq!(shown["batch"]["item_id"], "item.id");
        let bare = read("[endpoint.response]\nsuccess = \"\"\nemit = { type = \"\" }").unwrap();
        assert_eq!(
            bare.config.endpoints[0].response,
            super::ResponsePolicy::default()
        );
    }

    /// C4: mistakes are shown where they are.
    #[test]
    fn c4_mistakes_in_rules() {
        for (lines, expected) in [
            (
                "response.parse = \"yaml\"",
                "response.parse: \"yaml\" is not known here",
            ),
            (
                "response.success = \"respons.ok\"",
                "there is nothing called `respons` here",
            ),
            ("response.success = \"item.ok\"", "`item` is not there yet"),
            ("response.capture = { \"a-b\" = \"1\" }", "is not a name"),
            (
                "response.capture = { a = \"captured.b\" }",
                "`captured` is not there yet",
            ),
            (
                "response.emit = { data = { a = \"1\" } }",
                "there is data but no type",
            ),
            ("response.emit = { kind = \"a\" }", "unknown key `kind`"),
            ("response.error = { text = \"response.x\" }", "unknown key `text`"),
            (
                "batch.item_id = \"items.id\"",
                "there is nothing called `items` here",
            ),
        ] {
            let found = read(lines).unwrap_err().to_string();
            assert!(found.contains(expected), "{lines}\n{found}");
        }
    }
}
