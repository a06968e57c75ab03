//! How answers are read, as it is written.

use serde_json::{Map, Value, json};

use crate::domain::endpoint::{Parse, ResponsePolicy};
use crate::template::Expression;

pub(super) fn response(policy: &ResponsePolicy) -> Value {
    let text =
        |expression: &Option<Expression>| expression.as_ref().map_or("", Expression::source).to_owned();
    let error = &policy.error;
    let mut shown = json!({
        "success_status": policy.success_status,
        "parse": parse(policy.parse),
        "success": text(&policy.success),
        "rejected": text(&policy.rejected),
        "capture": named(&policy.capture),
        "error": { "code": text(&error.code), "message": text(&error.message), "field": text(&error.field) },
        "emit": {},
    });
    if let Some(emit) = &policy.emit {
        shown["emit"] = json!({ "type": emit.kind.source(), "data": named(&emit.data) });
    }
    shown
}

fn parse(parse: Parse) -> &'static str {
    match parse {
        Parse::Auto => "auto",
        Parse::Json => "json",
        Parse::Xml => "xml",
        Parse::Text => "text",
        Parse::None => "none",
    }
}

/// Expressions hold no secrets, only their names.
pub(super) fn named(expressions: &[(Box<str>, Expression)]) -> Map<String, Value> {
    expressions
        .iter()
        .map(|(name, expression)| (name.to_string(), expression.source().into()))
        .collect()
}
