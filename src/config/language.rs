//! Readers of templates and expressions: compiled where they are written, so that a mistake is shown with its file,
//! line and key. What they may name stands here; what the language can do is `template`'s business.

use super::raw::Value;
use super::values::{Read, Wrong};
use crate::domain::endpoint::Settings;
use crate::template::{Expression, Problem, Target, Template};

/// What every template and expression may name.
const ALWAYS: &[&str] = &[
    "event", "data", "endpoint", "delivery", "batch", "vars", "secrets", "appended", "now",
];

/// Names with a meaning somewhere, which data can't take.
const TAKEN: &[&str] = &[
    "response",
    "item",
    "outcome",
    "signature",
    "loop",
    "range",
    "dict",
    "merge",
];

/// What a template of one key may name.
#[derive(Clone, Copy)]
pub(super) struct Names<'n> {
    bind: &'n str,
    also: &'n [&'static str],
}

impl<'n> Names<'n> {
    /// What is there before a request; `bind` is the endpoint's second name for data.
    pub(super) fn of_event(bind: &'n str) -> Self {
        Self::with(bind, &[])
    }

    /// The same and `also`: `response` behind a request, `item`, `signature` …
    pub(super) fn with(bind: &'n str, also: &'n [&'static str]) -> Self {
        Self { bind, also }
    }

    /// Every name used has to be one that is there: a misspelt one would be undefined for every event.
    fn check<'u>(&self, used: impl Iterator<Item = &'u str>) -> Result<(), Wrong> {
        let known = || ALWAYS.iter().chain(self.also).copied().chain([self.bind]);
        for name in used {
            if !known().any(|known| known == name) {
                let help = format!(
                    "known here: {}; data is also called by `bind`",
                    known().collect::<Vec<_>>().join(", ")
                );
                let help = if TAKEN.contains(&name) {
                    format!("`{name}` is not there yet at this point")
                } else {
                    help
                };
                return Err(Wrong::whole(
                    format!("there is nothing called `{name}` here"),
                    help,
                ));
            }
        }
        Ok(())
    }
}

/// Whether `name` can be written in a template.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether `name` means something already.
pub(super) fn is_taken(name: &str) -> bool {
    ALWAYS.contains(&name) || TAKEN.contains(&name) || name.starts_with("__")
}

/// A template for `target`.
pub(super) fn template<'n>(
    target: Target,
    names: &'n Names<'n>,
) -> impl Fn(&Value<'_>) -> Read<Template> + 'n {
    move |value| {
        let resolved = value.masked()?;
        let template = Template::compile_parts(&resolved.parts(), target).map_err(wrong)?;
        names.check(template.names())?;
        check_settings(&value.settings(), template.settings())?;
        Ok(template)
    }
}

/// An expression.
pub(super) fn expression<'n>(names: &'n Names<'n>) -> impl Fn(&Value<'_>) -> Read<Expression> + 'n {
    move |value| {
        let resolved = value.masked()?;
        if resolved.has_reference {
            return Err(Wrong::whole(
                "a reference can't stand in an expression",
                "give it a name under [secrets] and write secrets.name",
            ));
        }
        let expression = Expression::compile(&resolved.text).map_err(wrong)?;
        names.check(expression.names())?;
        check_settings(&value.settings(), expression.settings())?;
        Ok(expression)
    }
}

/// An expression; none when the text is empty.
pub(super) fn optional_expression<'n>(
    names: &'n Names<'n>,
) -> impl Fn(&Value<'_>) -> Read<Option<Expression>> + 'n {
    move |value| {
        if value.masked()?.text.trim().is_empty() {
            return Ok(None);
        }
        expression(names)(value).map(Some)
    }
}

/// Every `vars.…` and `secrets.…` has to be set: one that is not could never be rendered.
fn check_settings<'u>(settings: &Settings, used: impl Iterator<Item = &'u str>) -> Result<(), Wrong> {
    for name in used {
        let (section, key) = name.split_once('.').unwrap_or((name, ""));
        if !settings.has(section, key) {
            return Err(Wrong::whole(
                format!("{name} is not set"),
                format!("add {key} = … under [{section}]"),
            ));
        }
    }
    Ok(())
}

/// The place within the text goes before the message: the file's line is told by whoever reports it.
fn wrong(problem: Problem) -> Wrong {
    let place = match (problem.line, problem.column) {
        (Some(1), Some(column)) => format!("at character {column}: "),
        (Some(line), Some(column)) => format!("at its line {line}, character {column}: "),
        _ => String::new(),
    };
    Wrong::whole(format!("{place}{}", problem.says), problem.help)
}
