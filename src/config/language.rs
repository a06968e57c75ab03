//! Readers of templates and expressions: compiled where they are written, so that a mistake is shown with its file,
//! line and key. What they may name stands here; what the language can do is `template`'s business.

use super::module;
use super::noted::Form;
use super::raw::Value;
use super::values::{Read, Wrong};
use crate::template::{Expression, Problem, Target, Template};

/// What every template and expression may name.
const ALWAYS: &[&str] = &[
    "event", "data", "endpoint", "delivery", "batch", "vars", "secrets", "with", "appended", "now",
];

/// Names with a meaning somewhere, which data can't take.
const TAKEN: &[&str] = &[
    "response",
    "captured",
    "item",
    "outcome",
    "error_class",
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
    steps: Steps<'n>,
}

/// Which steps have been there when a template is rendered.
#[derive(Clone, Copy)]
enum Steps<'n> {
    /// It is not known yet where the template will stand.
    Any,
    /// These.
    Of(&'n [Box<str>]),
}

impl<'n> Names<'n> {
    /// What is there before a request; `bind` is the endpoint's second name for data.
    pub(super) fn of_event(bind: &'n str) -> Self {
        Self::with(bind, &[])
    }

    /// The same and `also`: `response` behind a request, `item`, `signature` …
    pub(super) fn with(bind: &'n str, also: &'n [&'static str]) -> Self {
        Self {
            bind,
            also,
            steps: Steps::Of(&[]),
        }
    }

    /// The same where these steps have been.
    pub(super) fn behind(self, steps: &'n [Box<str>]) -> Self {
        Self {
            steps: Steps::Of(steps),
            ..self
        }
    }

    /// The same where any step may have been.
    pub(super) fn anywhere(self) -> Self {
        Self {
            steps: Steps::Any,
            ..self
        }
    }

    /// A step has to have been there: what it stores would be undefined for every event.
    fn check_step(&self, name: &str) -> Result<(), Wrong> {
        let Steps::Of(steps) = self.steps else {
            return Ok(());
        };
        if steps.iter().any(|known| **known == *name) {
            return Ok(());
        }
        let help = match steps {
            [] => "no step has been there; a step sees those that it names in `after`".to_owned(),
            known => format!(
                "known here: {}; a step sees those that it names in `after`",
                known.join(", ")
            ),
        };
        Err(Wrong::whole(
            format!("appended.{name} is not there at this point"),
            help,
        ))
    }

    /// Every name used has to be one that is there: a misspelt one would be undefined for every event.
    fn check<'u>(&self, mut used: impl Iterator<Item = &'u str>) -> Result<(), Unknown> {
        let known = || ALWAYS.iter().chain(self.also).copied().chain([self.bind]);
        let Some(name) = used.find(|name| !known().any(|known| known == *name)) else {
            return Ok(());
        };
        let bound = Some(self.bind).filter(|bind| *bind != "data");
        let known: Vec<_> = ALWAYS.iter().chain(self.also).copied().chain(bound).collect();
        let help = match (TAKEN.contains(&name), bound) {
            (true, _) => format!("`{name}` is not there yet at this point"),
            (false, Some(_)) => format!("known here: {}", known.join(", ")),
            (false, None) => format!(
                "known here: {}; `bind` gives data a second name",
                known.join(", ")
            ),
        };
        Err(Unknown {
            name: name.to_owned(),
            help,
        })
    }
}

/// A name that is not there.
struct Unknown {
    name: String,
    help: String,
}

impl Unknown {
    /// It was a word of an expression: likely a text whose quotes were taken for the file's.
    fn in_expression(self, text: &str) -> Wrong {
        let stands_in_words = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        let text = text.trim();
        if TAKEN.contains(&&*self.name) {
            return self.into();
        }
        let help = match text.chars().all(stands_in_words) {
            true => format!("a text needs quotes of its own: \"'{text}'\"; {}", self.help),
            false => format!("{}; a text needs quotes of its own: '{}'", self.help, self.name),
        };
        Self { help, ..self }.into()
    }
}

impl From<Unknown> for Wrong {
    fn from(unknown: Unknown) -> Self {
        Self::whole(
            format!("there is nothing called `{}` here", unknown.name),
            unknown.help,
        )
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
        check_settings(value, names, template.settings())?;
        if let Err(problem) = template.trial() {
            value.warn(&wrong(problem));
        }
        value.note(Form::Template(template.clone()));
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
        names
            .check(expression.names())
            .map_err(|unknown| unknown.in_expression(&resolved.text))?;
        check_settings(value, names, expression.settings())?;
        value.note(Form::Expression(expression.clone()));
        Ok(expression)
    }
}

/// What `how` reads; none when the text is empty.
pub(super) fn optional<'n, T>(
    how: impl Fn(&Value<'_>) -> Read<T> + 'n,
) -> impl Fn(&Value<'_>) -> Read<Option<T>> + 'n {
    move |value| {
        if value.is_empty_text() {
            return Ok(None);
        }
        how(value).map(Some)
    }
}

/// Every `vars.…`, `secrets.…`, `with.…` and `appended.…` has to be there: one that is not could never be rendered.
fn check_settings<'u>(
    value: &Value<'_>,
    names: &Names<'_>,
    used: impl Iterator<Item = &'u str>,
) -> Result<(), Wrong> {
    let settings = value.settings();
    for name in used {
        let (section, key) = name.split_once('.').unwrap_or((name, ""));
        if section == "with" {
            module::check_name(value.given(), key)?;
        } else if section == "appended" {
            names.check_step(key)?;
        } else if !settings.has(section, key) {
            return Err(Wrong::whole(
                format!("{name} is not set"),
                format!("add {key} = … under [{section}]"),
            ));
        }
    }
    Ok(())
}

/// The place within the text goes before the message: the file's line is told by whoever reports it.
pub(super) fn wrong(problem: Problem) -> Wrong {
    let tag = problem
        .tag
        .map_or_else(String::new, |tag| format!(", in `{tag}`"));
    let place = match (problem.line, problem.column) {
        (Some(1), Some(column)) => format!("at character {column}{tag}: "),
        (Some(line), Some(column)) => format!("at its line {line}, character {column}{tag}: "),
        _ => String::new(),
    };
    Wrong::whole(format!("{place}{}", problem.says), problem.help)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::load::load_text;
    use crate::config::secrets::Secrets;
    use crate::config::{Loaded, Problems, effective};
    use crate::domain::endpoint::Judgement;
    use crate::domain::time::Timestamp;

    fn read(lines: &str) -> Result<Loaded, Problems> {
        let text = format!(
            "[vars]\nflow = \"spring\"\nlimits = {{ score = 50 }}\n[secrets]\nkey = \"${{env:KEY}}\"\n\
             [[endpoint]]\nname = \"crm\"\nurl = \"https://a.example/\"\n{lines}\n"
        );
        let variable = |name: &str| (name == "KEY").then(|| "{{ hunter2 }}".to_owned());
        load_text(Path::new("config.toml"), text, &Secrets { variable: &variable })
    }

    /// B2, C6: conditions see the event, the operator's values and its secrets; secrets show nowhere.
    #[test]
    fn b2_c6_conditions_see_the_event_and_the_settings() {
        let loaded = read(concat!(
            "bind = \"lead\"\nwhen = \"lead.score >= vars.limits.score and secrets.key\"\n",
            "skip_reason = \"{{ lead.score }} in {{ vars.flow }} with {{ secrets.key }} of ${env:KEY}\""
        ));
        let loaded = loaded.unwrap();
        let endpoint = &loaded.config.endpoints[0];
        let judge = |json: &'static str| {
            let scope = endpoint.scope(&bytes::Bytes::from_static(json.as_bytes()), Timestamp(0));
            endpoint.selection.judge(&scope)
        };
        assert_eq!(judge(r#"{"data":{"score":50}}"#), Ok(Judgement::Send));
        let reason = "49 in spring with *** of ***".to_owned();
        assert_eq!(judge(r#"{"data":{"score":49}}"#), Ok(Judgement::Skip(reason)));
        assert!(judge("{}").unwrap_err().says.contains("undefined"));
        let shown = format!("{:?} {}", loaded.config, effective(&loaded.config));
        assert!(
            !shown.contains("hunter2") && shown.contains("lead.score >= vars.limits.score"),
            "{shown}"
        );
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }

    /// B2: a text stands after every number, so what may come as a text wants to be made a number first.
    #[test]
    fn b2_texts_are_compared_with_numbers() {
        for (when, data, expected) in [
            ("data.score >= 50", r#"{"score":7}"#, Some(false)),
            ("data.score >= 50", r#"{"score":"7"}"#, Some(true)),
            ("data.score|int >= 50", r#"{"score":"7"}"#, Some(false)),
            ("data.score|int >= 50", r#"{"score":"50"}"#, Some(true)),
            ("data.score|int >= 50", r#"{"score":50}"#, Some(true)),
            ("data.score|int >= 50", r#"{"score":"many"}"#, None),
            ("data.score|int >= 50", "{}", None),
            ("data.score|float >= 49.5", r#"{"score":"49.5"}"#, Some(true)),
        ] {
            let loaded = read(&format!("when = \"{when}\"")).unwrap();
            let json = format!("{{\"data\":{data}}}");
            let scope = loaded.config.endpoints[0].scope(&json.clone().into(), Timestamp(0));
            let judged = loaded.config.endpoints[0].selection.judge(&scope);
            assert_eq!(
                judged.as_ref().ok().map(|judged| *judged == Judgement::Send),
                expected,
                "{when} {json} {judged:?}"
            );
        }
    }

    /// C4: a mistake is shown with its file, line, key, its place in the text, and how to mend it.
    #[test]
    fn c4_mistakes_are_shown_where_they_are() {
        for (lines, expected) in [
            (
                "when = \"data.score >=\"",
                "config.toml:9:8: endpoint.crm.when: at character 12: it can't be read",
            ),
            (
                "when = \"scor > 5\"",
                "there is nothing called `scor` here; known here: event, data",
            ),
            (
                "when = \"scor > 5\"",
                "now; `bind` gives data a second name; a text needs quotes of its own: 'scor'",
            ),
            (
                "bind = \"lead\"\nwhen = \"lead.kind == b2c\"",
                "known here: event, data, endpoint, delivery, batch, vars, secrets, with, appended, now, lead; a text needs",
            ),
            (
                "body = { format = \"json\", fields = { a = \"landing-page\" } }",
                "endpoint.crm.body.fields.a: there is nothing called `landing` here; a text needs quotes of its own: \"'landing-page'\"; known here",
            ),
            ("when = \"response.ok\"", "`response` is not there yet"),
            (
                "when = \"batch.size > 1\"",
                "before there is a batch; look at the event itself",
            ),
            (
                "when = \"data.a\"\nskip_reason = \"one of {{ batch.size }}\"",
                "skip_reason: each event is chosen before",
            ),
            (
                "when = \"vars.flwo == 'x'\"",
                "vars.flwo is not set; add flwo = … under [vars]",
            ),
            ("when = \"secrets.none\"", "secrets.none is not set"),
            (
                "when = \"'${env:KEY}' == data.k\"",
                "give it a name under [secrets]",
            ),
            ("when = \"{{ data.x }}\"", "an expression has no braces"),
            ("when = 5", "endpoint.crm.when: 5 has to be a string"),
            (
                "when = \"data.x\"\nskip_reason = \"{{ data.x|uper }}\"",
                "at character 11, in `{{ data.x|uper }}`: there is no filter `uper`; did you mean `upper`?",
            ),
            (
                "when = \"data.x\"\nskip_reason = \"{{ '${env:KEY}' }}\"",
                "a ${…} stands inside a tag",
            ),
            ("skip_reason = \"x\"", "nothing is skipped without `when`"),
            ("bind = \"vars\"", "\"vars\" can't name data"),
            ("bind = \"a-b\"", "can't name data"),
            (
                "filter = { data = { score = { \"$gtt\" = 5 } } }",
                "endpoint.crm.filter: at data.score.$gtt: there is no such operator; did you mean $gt",
            ),
            ("filter = \"x\"", "has to be a table"),
        ] {
            let found = read(lines).unwrap_err().to_string();
            assert!(found.contains(expected), "{lines}\n{found}");
            assert!(!found.contains("hunter2"), "{found}");
        }
    }
}
