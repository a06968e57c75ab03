//! What requests look like, masked.

use serde_json::{Map, Value, json};

use super::show_duration;
use crate::domain::endpoint::{
    Address, Balance, BodyFormat, BodyPolicy, Compression, DocumentKind, Fields, LineLayout, Route,
};
use crate::template::Template;

/// All addresses, when there are several.
pub(super) fn several(addresses: &[Address]) -> Vec<&str> {
    match addresses {
        [_] => Vec::new(),
        several => several.iter().map(|address| &*address.shown).collect(),
    }
}

pub(super) fn balance(balance: Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => "round_robin",
        Balance::Random => "random",
        Balance::Healthy => "healthy",
    }
}

/// Names with their values: templates over an event as they are written, everything else as `***`.
pub(super) fn masked<'a>(named: impl Iterator<Item = (&'a str, &'a Template)>) -> Map<String, Value> {
    let shown = |template: &Template| match template.fixed().is_none() && !template.has_secret() {
        true => template.source().to_owned(),
        false => "***".to_owned(),
    };
    named
        .map(|(name, template)| (name.to_owned(), shown(template).into()))
        .collect()
}

pub(super) fn route(route: &Route) -> Value {
    json!({
        "when": route.when.source(),
        "url": route.address.as_ref().map(|address| &*address.shown),
        "timeout": route.timeout.map(show_duration),
        "method": route.method.as_ref().map(Template::source),
        "headers": masked(route.headers.iter().map(|(name, template)| (name.as_str(), template))),
    })
}

pub(super) fn body(policy: &BodyPolicy) -> Value {
    let mut shown = json!({
        "format": format(&policy.format),
        "content_type": policy.content_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default(),
        "compress": match policy.compress {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        },
        "wrap": policy.wrap,
    });
    match &policy.format {
        BodyFormat::JsonFields(list) | BodyFormat::Form(list) => shown["fields"] = fields(list),
        BodyFormat::Document { template, .. } => shown["template"] = template.source().into(),
        BodyFormat::Line(LineLayout::Separated { columns, delimiter }) => {
            shown["fields"] = fields(columns);
            shown["delimiter"] = char::from(*delimiter).to_string().into();
        }
        BodyFormat::Line(LineLayout::Joined { columns, delimiter }) => {
            shown["fields"] = fields(columns);
            shown["delimiter"] = (**delimiter).into();
        }
        BodyFormat::Line(LineLayout::Fixed { columns }) => {
            let column = |(expression, width): &(crate::template::Expression, usize)| json!({ "value": expression.source(), "width": width });
            shown["columns"] = columns.iter().map(column).collect();
        }
        _ => {}
    }
    shown
}

fn fields(fields: &Fields) -> Value {
    match fields {
        Fields::Data => json!({}),
        Fields::Mapped(list) => list
            .iter()
            .map(|(name, expression)| (name.to_string(), Value::from(expression.source())))
            .collect::<Map<_, _>>()
            .into(),
    }
}

fn format(format: &BodyFormat) -> &'static str {
    match format {
        BodyFormat::Event => "event",
        BodyFormat::CloudEvents => "cloudevents",
        BodyFormat::Envelope => "envelope",
        BodyFormat::Data => "data",
        BodyFormat::JsonFields(_) => "json",
        BodyFormat::Form(_) => "form",
        BodyFormat::None => "none",
        BodyFormat::Document { kind, .. } => match kind {
            DocumentKind::Json => "json",
            DocumentKind::Xml => "xml",
            DocumentKind::Soap => "soap",
            DocumentKind::Text => "text",
        },
        BodyFormat::Line(layout) => match layout {
            LineLayout::Separated { delimiter: b',', .. } => "csv",
            LineLayout::Separated { .. } | LineLayout::Joined { .. } => "delimited",
            LineLayout::Fixed { .. } => "fixed",
        },
    }
}
