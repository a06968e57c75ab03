//! `[endpoint.body]`: what is sent.

use http::HeaderValue;

use crate::config::language::{self, Names};
use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::{BodyFormat, BodyPolicy, Compression, DocumentKind, Fields, LineLayout};
use crate::template::{Expression, Target};

/// Widest column of a fixed-width line, in characters.
const WIDTH_MAX: u32 = 10_000;

/// The formats by name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Event,
    CloudEvents,
    Envelope,
    Data,
    Json,
    Form,
    Xml,
    Soap,
    Csv,
    Delimited,
    Fixed,
    Text,
    None,
}

const FORMATS: &[(&str, Format)] = &[
    ("event", Format::Event),
    ("cloudevents", Format::CloudEvents),
    ("envelope", Format::Envelope),
    ("data", Format::Data),
    ("json", Format::Json),
    ("form", Format::Form),
    ("xml", Format::Xml),
    ("soap", Format::Soap),
    ("csv", Format::Csv),
    ("delimited", Format::Delimited),
    ("fixed", Format::Fixed),
    ("text", Format::Text),
    ("none", Format::None),
];

const COMPRESSIONS: &[(&str, Compression)] = &[
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
];

pub(super) fn body(table: &Table<'_>, names: &Names<'_>) -> BodyPolicy {
    let format = table
        .read("format", values::choice(FORMATS))
        .unwrap_or(Format::Event);
    reject_strangers(table, format);
    BodyPolicy {
        format: body_format(table, format, names),
        content_type: table.read("content_type", content_type).flatten(),
        compress: table
            .read("compress", values::choice(COMPRESSIONS))
            .unwrap_or_default(),
        wrap: table.read("wrap", values::text).unwrap_or_default().into(),
    }
}

/// Notes keys that the format doesn't look at: whoever wrote them expects something.
fn reject_strangers(table: &Table<'_>, format: Format) {
    let takes_fields = matches!(
        format,
        Format::Json | Format::Form | Format::Csv | Format::Delimited | Format::Fixed
    );
    let takes_template = matches!(format, Format::Json | Format::Xml | Format::Soap | Format::Text);
    let takes_order = matches!(format, Format::Csv | Format::Delimited | Format::Fixed);
    for (key, fits, formats) in [
        ("fields", takes_fields, "json, form, csv, delimited and fixed"),
        ("template", takes_template, "json, xml, soap and text"),
        ("order", takes_order, "csv, delimited and fixed"),
        ("widths", format == Format::Fixed, "fixed"),
        (
            "delimiter",
            matches!(format, Format::Delimited | Format::Csv),
            "csv and delimited",
        ),
    ] {
        let is_empty = table.value(key).is_some_and(|value| value.is_empty());
        if !fits && table.has(key) && !is_empty {
            let says = format!("only the formats {formats} look at it");
            table.reject_key(&[key], &Wrong::whole(says, "set body.format, or remove it"));
        }
    }
}

fn body_format(table: &Table<'_>, format: Format, names: &Names<'_>) -> BodyFormat {
    let mapped = || fields(table, names);
    match format {
        Format::Event => BodyFormat::Event,
        Format::CloudEvents => BodyFormat::CloudEvents,
        Format::Envelope => BodyFormat::Envelope,
        Format::Data => BodyFormat::Data,
        Format::None => BodyFormat::None,
        Format::Form => BodyFormat::Form(mapped()),
        Format::Json => match document(table, DocumentKind::Json, names) {
            Some(document) => document,
            None => {
                reject_nested(table);
                BodyFormat::JsonFields(mapped())
            }
        },
        Format::Xml => template_needed(table, DocumentKind::Xml, names),
        Format::Soap => template_needed(table, DocumentKind::Soap, names),
        Format::Text => template_needed(table, DocumentKind::Text, names),
        Format::Csv => BodyFormat::Line(separated(table, ordered(table, names), ",")),
        Format::Delimited => BodyFormat::Line(separated(table, ordered(table, names), "|")),
        Format::Fixed => fixed(table, names),
    }
}

/// The body from `template`, if there is one.
fn document(table: &Table<'_>, kind: DocumentKind, names: &Names<'_>) -> Option<BodyFormat> {
    if table.value("template").is_some_and(|value| value.is_empty()) {
        return None;
    }
    let target = match kind {
        DocumentKind::Json => Target::Json,
        DocumentKind::Xml | DocumentKind::Soap => Target::Xml,
        DocumentKind::Text => Target::Text,
    };
    let value = table.value("template")?;
    if table.value("fields").is_some_and(|fields| !fields.is_empty()) {
        value.reject(&Wrong::whole(
            "there are both a template and fields",
            "keep one of them",
        ));
    }
    let template = value.read(language::template(target, names))?;
    Some(BodyFormat::Document { kind, template })
}

fn template_needed(table: &Table<'_>, kind: DocumentKind, names: &Names<'_>) -> BodyFormat {
    if !table.has("template") {
        table.missing("template");
    }
    document(table, kind, names).unwrap_or_default()
}

/// `fields`, in the order written; every member of data when there are none.
fn fields(table: &Table<'_>, names: &Names<'_>) -> Fields {
    let mapped = mapped(table, names);
    if mapped.is_empty() {
        Fields::Data
    } else {
        Fields::Mapped(mapped)
    }
}

fn mapped(table: &Table<'_>, names: &Names<'_>) -> Vec<(Box<str>, Expression)> {
    let mut mapped: Vec<(Box<str>, Expression)> = Vec::new();
    for (place, name, value) in table.entries("fields") {
        if name.is_empty() || name.split('.').any(str::is_empty) {
            value.reject_at(
                &place,
                &Wrong::whole(
                    "a part of the field's name is empty",
                    "write it like contact.email",
                ),
            );
        }
        let expression = value.read(language::expression(names));
        if !mapped.iter().any(|(known, _)| **known == *name) {
            mapped.extend(expression.map(|expression| (name.into(), expression)));
        }
    }
    mapped
}

/// Notes every field whose dotted name leads into another field: only one of the two could be sent.
fn reject_nested(table: &Table<'_>) {
    let entries = table.entries("fields");
    for (place, name, value) in &entries {
        let is_inside = |other: &&str| name.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'));
        if let Some(holder) = entries.iter().map(|(_, other, _)| *other).find(is_inside) {
            value.reject_at(
                place,
                &Wrong::whole(
                    format!("the field {name} lies inside the field {holder}, so one of them would be lost"),
                    "remove one of them, or give it another name",
                ),
            );
        }
    }
}

/// The columns of a line: those of `order`, each from `fields` or from the member of data of that name; without `order`
/// as `fields` are written.
fn ordered(table: &Table<'_>, names: &Names<'_>) -> Fields {
    let mapped = mapped(table, names);
    let order: Vec<Value<'_>> = table
        .value("order")
        .and_then(|list| list.items("write it like [\"email\", \"phone\"]"))
        .unwrap_or_default();
    if order.is_empty() {
        return if mapped.is_empty() {
            Fields::Data
        } else {
            Fields::Mapped(mapped)
        };
    }
    let column = |item: &Value<'_>| item.read(|value| column(value, &mapped));
    Fields::Mapped(order.iter().filter_map(column).collect())
}

fn column(value: &Value<'_>, mapped: &[(Box<str>, Expression)]) -> Read<(Box<str>, Expression)> {
    let name = values::text(value)?;
    if let Some(known) = mapped.iter().find(|(known, _)| **known == *name) {
        return Ok(known.clone());
    }
    if !mapped.is_empty() {
        return Err(Wrong::new("is no field", "add it to body.fields"));
    }
    let expression = if language::is_name(&name) {
        Expression::compile(&format!("data.{name}"))
    } else {
        Expression::compile(&format!("data[{}]", serde_json::Value::from(&*name)))
    };
    let expression =
        expression.map_err(|_| Wrong::new("can't name a member of data", "map it under body.fields"))?;
    Ok((name.into(), expression))
}

fn separated(table: &Table<'_>, columns: Fields, default: &str) -> LineLayout {
    let delimiter = table
        .read("delimiter", delimiter)
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| default.to_owned());
    match delimiter.as_bytes() {
        [single] if single.is_ascii() => LineLayout::Separated {
            columns,
            delimiter: *single,
        },
        _ => LineLayout::Joined {
            columns,
            delimiter: delimiter.into(),
        },
    }
}

fn delimiter(value: &Value<'_>) -> Read<String> {
    let text = values::text(value)?;
    let stands_for_itself = |c: char| matches!(c, '"' | '\r' | '\n');
    if text.contains(stands_for_itself) {
        return Err(Wrong::new(
            "can't stand between values",
            "write one like \"|\", \";\" or \"\\t\"",
        ));
    }
    Ok(text)
}

fn fixed(table: &Table<'_>, names: &Names<'_>) -> BodyFormat {
    if !table.has("widths") {
        table.missing("widths");
    }
    let mut widths: Vec<(&str, usize)> = Vec::new();
    for (_, name, value) in table.entries("widths") {
        if let Some(width) = value.read(values::count(1..=WIDTH_MAX)) {
            widths.push((name, width as usize));
        }
    }
    let columns = match ordered(table, names) {
        Fields::Mapped(columns) => columns,
        Fields::Data => {
            let of = |(name, _): &(&str, usize)| {
                Some(((*name).into(), Expression::compile(&format!("data.{name}")).ok()?))
            };
            widths.iter().filter_map(of).collect()
        }
    };
    let mut laid_out = Vec::new();
    for (name, expression) in columns {
        match widths.iter().find(|(known, _)| *known == &*name) {
            Some((_, width)) => laid_out.push((expression, *width)),
            None => {
                let help = format!("add {name} = … to body.widths");
                table.reject_key(
                    &["widths"],
                    &Wrong::whole(format!("the column {name} has no width"), help),
                );
            }
        }
    }
    BodyFormat::Line(LineLayout::Fixed { columns: laid_out })
}

fn content_type(value: &Value<'_>) -> Read<Option<HeaderValue>> {
    let text = values::text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    HeaderValue::from_str(&text)
        .map(Some)
        .map_err(|_| Wrong::new("is not a media type", "write it like text/csv; charset=utf-8"))
}
