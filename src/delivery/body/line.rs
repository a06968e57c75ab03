//! One event as one line: comma-separated, delimited, fixed width. A value can't end its field or its line: it is
//! quoted, refused, or put on one line.

use crate::domain::endpoint::{Fields, LineLayout};
use crate::template::Scope;

use super::fields;

/// The line of one event, without its end.
pub(super) fn line(layout: &LineLayout, scope: &Scope, event: &[u8]) -> Result<String, String> {
    match layout {
        LineLayout::Separated { columns, delimiter } => {
            separated(&values(columns, scope, event)?, *delimiter)
        }
        LineLayout::Joined { columns, delimiter } => joined(&values(columns, scope, event)?, delimiter),
        LineLayout::Fixed { columns } => {
            let mut line = String::new();
            for (expression, width) in columns {
                let value = fields::value(expression.source(), expression, scope)?;
                push_fixed(&mut line, &value.map(fields::text).unwrap_or_default(), *width);
            }
            Ok(line)
        }
    }
}

/// The media type of such a line.
pub(super) fn media_type(layout: &LineLayout) -> &'static str {
    match layout {
        LineLayout::Separated { delimiter: b',', .. } => "text/csv; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    }
}

fn values(columns: &Fields, scope: &Scope, event: &[u8]) -> Result<Vec<(Box<str>, String)>, String> {
    let texts = fields::texts(columns, scope, event)?;
    Ok(texts
        .into_iter()
        .map(|(name, value)| (name, value.unwrap_or_default()))
        .collect())
}

fn separated(values: &[(Box<str>, String)], delimiter: u8) -> Result<String, String> {
    let mut writer = csv::WriterBuilder::new()
        .delimiter(delimiter)
        .from_writer(Vec::new());
    let failed = |error: String| format!("body: {error}");
    writer
        .write_record(values.iter().map(|(_, value)| value))
        .map_err(|error| failed(error.to_string()))?;
    let line = writer.into_inner().map_err(|error| failed(error.to_string()))?;
    let mut line = String::from_utf8(line).map_err(|error| failed(error.to_string()))?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

fn joined(values: &[(Box<str>, String)], delimiter: &str) -> Result<String, String> {
    let last = values.len().saturating_sub(1);
    for (index, (name, value)) in values.iter().enumerate() {
        // The end of a value and the delimiter behind it may make an earlier delimiter: `a:` and `::`.
        let ends_early = index < last && format!("{value}{delimiter}").find(delimiter) != Some(value.len());
        if ends_early || value.contains(delimiter) || value.contains(['\r', '\n']) {
            return Err(format!(
                "body: the value of {name} holds the delimiter, its beginning at the end, or a line break; a delimiter of one character would be quoted"
            ));
        }
    }
    let texts: Vec<&str> = values.iter().map(|(_, value)| &**value).collect();
    Ok(texts.join(delimiter))
}

/// Appends `value` in exactly `width` characters. Control characters would shift what a reader counts, so they
/// become spaces.
fn push_fixed(line: &mut String, value: &str, width: usize) {
    let mut written = 0;
    for character in value.chars().take(width) {
        line.push(if character.is_control() { ' ' } else { character });
        written += 1;
    }
    line.extend(std::iter::repeat_n(' ', width - written));
}
