//! Integration modules: what a module says of its variables, what an endpoint gives for them, and where modules are found.
//! A module is an endpoint written once, with names in place of what differs; it lies beneath the endpoint that uses it as
//! `[defaults]` does. What its keys mean is read where those of endpoints are.
//!
//! A variable is used in three ways: a value that is nothing but `${with:NAME}` is replaced by what was given, as if it
//! had been written there (any type; without a value the key is as good as not written); `${with:NAME}` inside a
//! string is replaced by its text; templates and expressions read `with.NAME`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::keys;
use super::language::{self, Names};
use super::managed::FileTexts;
use super::problem::{Findings, Problem};
use super::raw::{Table, Value};
use super::values::{self, Read, Wrong};
use crate::domain::endpoint::Integration;
use crate::template::{self, GivenForm, Target, from_json};

/// The folder beside the configuration file where modules of one's own stand.
const FOLDER: &str = "integrations";

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../integrations/", $name, ".toml")))),*]
    };
}

/// The modules that come with posthaste.
pub(super) const BUILT_IN: &[(&str, &str)] = built_in![
    "standard/json_post",
    "standard/xml_post",
    "standard/soap",
    "standard/form_post",
    "standard/webhook",
    "slack/message",
    "discord/message",
    "teams/message",
    "pagerduty/event",
    "hubspot/contact",
    "salesforce/create_lead",
];

/// The text of a module.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    /// `standard/json_post`
    pub name: String,
    /// Where it stands, or a name for people when it is built in.
    pub path: PathBuf,
    /// Whether it was read from a file.
    pub is_file: bool,
    /// All of it.
    pub text: String,
}

/// A module, its variables judged.
pub(super) struct Module<'a> {
    variables: Vec<(&'a str, Variable<'a>)>,
    /// The keys of its endpoint.
    pub endpoint: Table<'a>,
}

/// What a module says of one variable.
struct Variable<'a> {
    kind: VariableKind,
    is_required: bool,
    is_secret: bool,
    default: Option<Value<'a>>,
}

/// What may be given for a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VariableKind {
    String,
    Template,
    Expression,
    Number,
    Flag,
    List,
    Table,
}

const KINDS: &[(&str, VariableKind)] = &[
    ("string", VariableKind::String),
    ("template", VariableKind::Template),
    ("expression", VariableKind::Expression),
    ("number", VariableKind::Number),
    ("boolean", VariableKind::Flag),
    ("list", VariableKind::List),
    ("table", VariableKind::Table),
];

/// The values that an endpoint gives to its module, defaults filled in.
pub(super) struct Given<'a> {
    module: String,
    entries: BTreeMap<&'a str, Entry<'a>>,
}

#[derive(Default)]
struct Entry<'a> {
    value: Option<Value<'a>>,
    /// For use inside other strings.
    text: Option<String>,
    /// For templates.
    form: Option<GivenForm>,
    is_secret: bool,
    shown: serde_json::Value,
}

/// The names of the modules that the endpoints of `documents` use, each once.
pub(super) fn used<'d>(documents: impl Iterator<Item = &'d DeTable<'d>>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut note = |table: &DeValue<'_>| {
        let name = table.as_table().and_then(|table| table.get("use"));
        if let Some(name) = name.and_then(|name| name.get_ref().as_str())
            && !names.iter().any(|known| known == name)
        {
            names.push(name.to_owned());
        }
    };
    for document in documents {
        if let Some(defaults) = document.get("defaults") {
            note(defaults.get_ref());
        }
        let endpoints = document.get("endpoint").map(|endpoints| endpoints.get_ref());
        let Some(DeValue::Array(endpoints)) = endpoints else {
            continue;
        };
        endpoints.iter().for_each(|endpoint| note(endpoint.get_ref()));
    }
    names
}

/// The texts of the modules called `names`: from the folder beside the configuration file `config`, else built in. Those
/// that are nowhere are left out, and those `known` are not read again.
pub(super) fn read(
    names: Vec<String>,
    config: &Path,
    known: &[Text],
    findings: &RefCell<Findings>,
) -> Vec<Text> {
    let folder = config.parent().unwrap_or(Path::new("")).join(FOLDER);
    let mut texts = Vec::new();
    for name in names.into_iter().filter(|name| is_name(name)) {
        if let Some(text) = known.iter().find(|text| text.name == name) {
            texts.push(text.clone());
            continue;
        }
        let path = folder.join(format!("{name}.toml"));
        match fs::read_to_string(&path) {
            Ok(text) => texts.push(Text {
                name,
                path,
                is_file: true,
                text,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
                texts.extend(built_in.map(|(_, text)| Text {
                    path: format!("(built in) {name}.toml").into(),
                    name,
                    is_file: false,
                    text: (*text).to_owned(),
                }));
            }
            Err(error) => findings.borrow_mut().problems.push(Problem::of_file(
                path,
                format!("the file can't be read: {error}"),
                "",
            )),
        }
    }
    texts
}

/// The modules as files, those built in under their name for people.
pub(super) fn file_texts(modules: &[Text]) -> FileTexts {
    let pair = |module: &Text| (module.path.clone(), module.text.clone());
    modules.iter().map(pair).collect()
}

/// The files that modules were read from.
pub(super) fn files(modules: &[Text]) -> impl Iterator<Item = PathBuf> {
    let files = modules.iter().filter(|module| module.is_file);
    files.map(|module| module.path.clone())
}

/// Whether `name` may name a module: parts of a-z, 0-9, _ and - with slashes between them, so it leads out of no folder.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    };
    name.split('/').all(is_part)
}

/// The module that the endpoint in `table` uses; what is wrong with its name is noted.
pub(super) fn of<'m, 'a>(table: &Table<'_>, modules: &'m [(&str, Module<'a>)]) -> Option<&'m Module<'a>> {
    let name = table.value("use").filter(|name| !name.is_empty());
    let Some(name) = name else {
        if table.value("with").is_some_and(|with| !with.is_empty()) {
            let wrong = Wrong::whole("nothing reads `with` without `use`", "add use = …, or remove it");
            table.reject_key(&["with"], &wrong);
        }
        return None;
    };
    name.read(|value| {
        let text = values::text(value)?;
        let found = modules.iter().find(|(known, _)| *known == text);
        found.map(|(_, module)| module).ok_or_else(|| {
            let own = format!("put one into {FOLDER}/NAME.toml beside the configuration");
            let known: Vec<_> = BUILT_IN.iter().map(|(known, _)| *known).collect();
            let help = match nearest(&text) {
                Some(near) => format!("did you mean {near:?}? For a module of your own {own}"),
                None => format!("{own}; built in are {}", known.join(" ")),
            };
            Wrong::new("is no integration module that can be read", help)
        })
    })
}

/// The built-in module that `name` was probably meant to be, by its whole name or a part of it.
fn nearest(name: &str) -> Option<&'static str> {
    let likeness = |known: &str| {
        let parts = known.split('/').chain([known]);
        parts
            .map(|part| strsim::normalized_damerau_levenshtein(part, name))
            .fold(0.0, f64::max)
    };
    let scored = BUILT_IN.iter().map(|(known, _)| (*known, likeness(known)));
    let (known, score) = scored.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (score >= 0.6).then_some(known)
}

/// That `with.name` is there.
pub(super) fn check_name(given: Option<&Given<'_>>, name: &str) -> Result<(), Wrong> {
    let Some(given) = given else {
        return Err(Wrong::whole(
            format!("with.{name} can't be read here"),
            "it is for modules, and for endpoints that `use` one",
        ));
    };
    if given.declares(name) {
        return Ok(());
    }
    Err(given.unknown(name))
}

impl<'a> Module<'a> {
    /// Reads the document of a module; problems are noted.
    pub(super) fn read(document: &Table<'a>) -> Self {
        let endpoint = document.table("endpoint");
        for key in ["name", "use", "with"] {
            let help = "leave it to the endpoint that uses the module";
            let says = format!("a module has no `{key}`");
            endpoint.reject_key(&[key], &Wrong::whole(says, help));
        }
        let variables = document.entries("variables");
        let variable = |(_, name, value): &(_, &'a str, Value<'a>)| {
            if !language::is_name(name) {
                let help = "use letters, digits and _, and begin with a letter";
                value.reject(&Wrong::whole("templates can't name it", help));
            }
            let table = value.as_table(&keys::VARIABLE);
            if table.is_none() {
                value.reject(
                    &value
                        .wrong_type("a table")
                        .or_write("write it as [variables.name]"),
                );
            }
            Some((*name, Variable::read(&table?)))
        };
        Self {
            variables: variables.iter().filter_map(variable).collect(),
            endpoint,
        }
    }

    /// What the endpoint in `table` gives for the variables; `bind` is its second name for data. What is missing, unknown
    /// or of another type is noted.
    pub(super) fn given<'t>(&self, table: &Table<'t>, bind: &str) -> Given<'t>
    where
        'a: 't,
    {
        let mut given = Given {
            module: table.read("use", values::text).unwrap_or_default(),
            entries: BTreeMap::new(),
        };
        for (name, variable) in &self.variables {
            let entry = Entry {
                is_secret: variable.is_secret,
                ..Entry::default()
            };
            given.entries.insert(name, entry);
        }
        let mut written: Vec<(&str, Value<'t>)> = Vec::new();
        for (place, name, value) in table.entries("with") {
            if !given.declares(name) {
                value.reject_at(&place, &given.unknown(name));
            } else if !written.iter().any(|(known, _)| *known == name) {
                written.push((name, value));
            }
        }
        for (name, variable) in &self.variables {
            let own = written.iter().position(|(known, _)| known == name);
            let value = own.map(|index| written.swap_remove(index).1);
            if value.is_none() && variable.is_required {
                let wrong = Wrong::whole(
                    format!("the module {} needs with.{name}", given.module),
                    format!("add {name} = … under [endpoint.with]"),
                );
                table.reject_key(&["use"], &wrong);
            }
            if let Some(mut value) = value.or_else(|| variable.default.clone()) {
                value.place.private |= variable.is_secret;
                if let Some(entry) = value.read(|value| variable.entry(value, bind)) {
                    given.entries.insert(name, entry);
                }
            }
        }
        given
    }
}

impl<'a> Variable<'a> {
    fn read(table: &Table<'a>) -> Self {
        let kind = table.read("type", values::choice(KINDS));
        Self {
            kind: kind.unwrap_or(VariableKind::String),
            is_required: table.read("required", Value::flag).unwrap_or(false),
            is_secret: table.read("secret", Value::flag).unwrap_or(false),
            default: table.value("default"),
        }
    }

    /// What `value` is in the three ways in which a variable is used.
    fn entry<'t>(&self, value: &Value<'t>, bind: &str) -> Read<Entry<'t>> {
        let mut entry = Entry {
            value: Some(value.clone()),
            is_secret: self.is_secret,
            ..Entry::default()
        };
        let names = Names::of_event(bind).anywhere();
        match self.kind {
            VariableKind::String => {
                let resolved = value.masked()?;
                entry.is_secret |= resolved.has_reference;
                entry.shown = resolved.masked.into();
                entry.form = Some(if entry.is_secret {
                    GivenForm::Secret((&*resolved.text).into())
                } else {
                    GivenForm::Value((&*resolved.text).into())
                });
                entry.text = Some(resolved.text);
            }
            VariableKind::Template => {
                let template = language::template(Target::Text, &names)(value)?;
                entry.shown = template.source().into();
                entry.form = Some(GivenForm::Template(template));
            }
            VariableKind::Expression => {
                let expression = language::expression(&names)(value)?;
                entry.shown = expression.source().into();
                entry.form = Some(GivenForm::Expression(expression));
            }
            VariableKind::Number => {
                value.number()?;
                entry.plain(value)?;
            }
            VariableKind::Flag => {
                value.flag()?;
                entry.plain(value)?;
            }
            VariableKind::List if !value.is_list() => return Err(value.wrong_type("an array")),
            VariableKind::Table if !value.is_table() => return Err(value.wrong_type("a table")),
            VariableKind::List | VariableKind::Table => entry.plain(value)?,
        }
        if entry.is_secret {
            entry.shown = "***".into();
        }
        Ok(entry)
    }
}

impl<'a> Entry<'a> {
    /// A value without a meaning of its own. A secret one is for its place in the module, not for templates.
    fn plain(&mut self, value: &Value<'a>) -> Read<()> {
        let json = value.json()?;
        if json.is_number() || json.is_boolean() {
            self.text = Some(json.to_string());
        }
        if !self.is_secret {
            self.form = Some(GivenForm::Value(from_json(json.clone())));
        }
        self.shown = json;
        Ok(())
    }
}

impl<'a> Given<'a> {
    /// Whether the module has a variable called `name`.
    pub(super) fn declares(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// What was given for `name`, or its default.
    pub(super) fn value(&self, name: &str) -> Option<&Value<'a>> {
        self.entries.get(name)?.value.as_ref()
    }

    /// The text of `name`, and whether it is a secret.
    ///
    /// # Errors
    /// The module has no such variable, or it has no value that can stand inside a text.
    pub(super) fn text(&self, name: &str) -> Result<(&str, bool), Wrong> {
        let entry = self.entries.get(name).ok_or_else(|| self.unknown(name))?;
        let text = entry.text.as_deref().ok_or_else(|| {
            Wrong::whole(
                format!("with.{name} has no value that can stand inside a text"),
                format!("add {name} = … under [endpoint.with]"),
            )
        })?;
        Ok((text, entry.is_secret))
    }

    /// The same for the endpoint.
    pub(super) fn integration(&self) -> Integration {
        let entries = || self.entries.iter();
        let form = |(name, entry): (&&str, &Entry<'_>)| {
            let none = || GivenForm::Value(template::Value::from(()));
            ((**name).into(), entry.form.clone().unwrap_or_else(none))
        };
        Integration {
            name: (&*self.module).into(),
            shown: entries()
                .filter(|(_, entry)| entry.value.is_some())
                .map(|(name, entry)| ((*name).to_owned(), entry.shown.clone()))
                .collect(),
            given: template::Given::new(entries().map(form)),
        }
    }

    fn unknown(&self, name: &str) -> Wrong {
        let known: Vec<_> = self.entries.keys().copied().collect();
        Wrong::whole(
            format!("the module {} has no variable `{name}`", self.module),
            format!("it has {}", known.join(", ")),
        )
    }
}

#[cfg(test)]
mod tests;
