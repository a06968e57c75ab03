//! Filters over text: case, padding, digits, replacing, joining, URL encoding.

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Error, State, Value, filters};
use percent_encoding::utf8_percent_encode;

use super::super::engine::Engine;
use super::super::sink::ENCODED;
use super::super::value::{invalid, text_of};
use super::check_growth;

/// Widest column that padding makes, in characters.
const WIDTH_MAX: usize = 65_536;

/// A filter that makes one text of another.
pub(in crate::template) type Change = fn(&str) -> String;

/// The filters that are no more than that, by name.
const SIMPLE: [(&str, Change); 8] = [
    ("upper", str::to_uppercase),
    ("lower", str::to_lowercase),
    ("string", str::to_owned),
    ("title", |text| filters::title(text.into())),
    ("capitalize", capitalize),
    ("digits", digits),
    ("urlencode", |text| utf8_percent_encode(text, ENCODED).to_string()),
    ("squeeze", squeeze),
];

/// What the filter `name` does to a text when it is given nothing else; `None`: more than make another text of it.
pub(in crate::template) fn change(name: &str) -> Option<Change> {
    if name == "trim" {
        return Some(|text| text.trim().to_owned());
    }
    SIMPLE
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, change)| *change)
}

pub(super) fn register(engine: &mut Engine) {
    // The engine's own take any value as the text that it prints of it, which has no bound.
    for (name, holds) in [
        (
            "startingwith",
            (|text, part| text.starts_with(part)) as fn(&str, &str) -> bool,
        ),
        ("endingwith", |text, part| text.ends_with(part)),
    ] {
        let test =
            move |value: &Value, part: &Value| Ok::<_, Error>(holds(&text_of(value)?, &text_of(part)?));
        engine.test(name, Value::from_function(test));
    }
    for (name, change) in SIMPLE {
        let filter = move |value: &Value| Ok::<_, Error>(change(&text_of(value)?));
        engine.filter(name, Value::from_function(filter));
    }
    engine.filter("trim", Value::from_function(trim));
    engine.filter("replace", Value::from_function(replace));
    engine.filter("join", Value::from_function(join));
    engine.filter("truncate", Value::from_function(truncate));
    engine.filter("format", Value::from_function(format));
    engine.filter("fixed", Value::from_function(fixed));
    engine.filter(
        "ljust",
        Value::from_function(|value: &Value, width: usize, fill: Option<char>| {
            pad(value, width, fill, |missing| (0, missing))
        }),
    );
    engine.filter(
        "rjust",
        Value::from_function(|value: &Value, width: usize, fill: Option<char>| {
            pad(value, width, fill, |missing| (missing, 0))
        }),
    );
    engine.filter(
        "center",
        Value::from_function(|value: &Value, width: usize, fill: Option<char>| {
            pad(value, width, fill, |missing| (missing / 2, missing - missing / 2))
        }),
    );
}

/// `mAPLE Street` → `Maple street`
fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    first.into_iter().flatten().collect::<String>() + &chars.as_str().to_lowercase()
}

/// `+1 (555) 123-4567` → `15551234567`
fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Runs of white space as one space, none at the ends.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn trim(value: &Value, characters: Option<String>) -> Result<String, Error> {
    let text = text_of(value)?;
    Ok(match characters {
        Some(characters) => text.trim_matches(|c| characters.contains(c)).to_owned(),
        None => text.trim().to_owned(),
    })
}

fn replace(value: &Value, from: &Value, to: &Value) -> Result<String, Error> {
    let (text, from, to) = (text_of(value)?, text_of(from)?, text_of(to)?);
    let found = text.matches(&*from).count();
    check_growth(
        text.len().saturating_add(found.saturating_mul(to.len())),
        text.len(),
    )?;
    Ok(text.replace(&*from, &to))
}

fn join(list: &Value, separator: Option<&str>, attribute: Option<&str>) -> Result<String, Error> {
    let separator = separator.unwrap_or("");
    let mut joined = String::new();
    for (index, item) in list.try_iter()?.checked().enumerate() {
        let item = match attribute {
            Some(name) => item?.get_attr(name)?,
            None => item?,
        };
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(&text_of(&item)?);
        check_growth(joined.len(), 0)?;
    }
    Ok(joined)
}

/// The first `length` characters.
fn truncate(value: &Value, length: usize) -> Result<String, Error> {
    Ok(text_of(value)?.chars().take(length).collect())
}

/// To exactly `width` characters at least; longer texts stay as they are.
fn pad(
    value: &Value,
    width: usize,
    fill: Option<char>,
    sides: impl Fn(usize) -> (usize, usize),
) -> Result<String, Error> {
    if width > WIDTH_MAX {
        return Err(invalid(format!("a width is at most {WIDTH_MAX}")));
    }
    let text = text_of(value)?;
    let (left, right) = sides(width.saturating_sub(text.chars().count()));
    let fill = |count| std::iter::repeat_n(fill.unwrap_or(' '), count);
    Ok(fill(left).chain(text.chars()).chain(fill(right)).collect())
}

/// printf's letters, for numbers mostly: `'%05d'|format(data.n)`. Widths have at most three digits.
fn format(state: &mut State<'_, '_>, format: &Value, values: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let text = text_of(format)?;
    let is_wide = text
        .split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.len() > 3);
    if is_wide || text.contains('*') {
        return Err(invalid("widths and precisions have at most three digits"));
    }
    filters::format(state, format, values)
}

/// A number with exactly `digits` digits behind the point.
fn fixed(value: &Value, digits: Option<usize>) -> Result<String, Error> {
    let text = text_of(value)?;
    let number: f64 = text
        .trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| invalid("it is not a number"))?;
    let digits = digits.unwrap_or(2).min(30);
    Ok(format!("{number:.digits$}"))
}
