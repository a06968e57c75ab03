//! The file key for key as it was written: a walk over the parsed TOML that knows where everything
//! stands, collects every problem instead of stopping at the first, and answers keys that are unknown or
//! not supported yet. What the values mean is not decided here.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Kind, Section};
use super::module::Given;
use super::noted::{Form, Noted};
use super::problem::Findings;
use super::secrets::{Resolved, Secrets};
use super::source::{Place, Source};
use super::values::Wrong;
use crate::domain::endpoint::Settings;

/// What reading a file needs besides the file.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    /// The file the tables come from.
    pub source: &'a Arc<Source>,
    /// Where references are looked up; `None`: whoever wrote this may not use any.
    pub secrets: Option<&'a Secrets<'a>>,
    /// Where problems and warnings go.
    pub findings: &'a RefCell<Findings>,
    /// `[vars]` and `[secrets]`, once they have been read.
    pub settings: &'a OnceCell<Arc<Settings>>,
    /// What `${with:…}` stands for, where there is a module.
    pub given: Option<&'a Given<'a>>,
}

/// One table as it was written.
#[derive(Clone)]
struct Layer<'a> {
    reading: Reading<'a>,
    entries: &'a DeTable<'a>,
    place: Place,
}

/// A table seen through its layers: a key is looked up in the first layer that has it, which is how
/// `[defaults]` lies beneath every `[[endpoint]]`. A table that was not written has no layers.
#[derive(Clone)]
pub(super) struct Table<'a> {
    section: &'static Section,
    layers: Vec<Layer<'a>>,
}

/// One value as it was written.
#[derive(Clone)]
pub(super) struct Value<'a> {
    reading: Reading<'a>,
    written: &'a DeValue<'a>,
    /// Where it stands.
    pub place: Place,
}

impl<'a> Table<'a> {
    /// A whole file.
    pub(super) fn document(
        reading: Reading<'a>,
        section: &'static Section,
        document: &'a DeTable<'a>,
    ) -> Self {
        let place = Place {
            source: Arc::clone(reading.source),
            span: 0..0,
            key: String::new(),
            private: false,
        };
        Self::of_layer(
            section,
            Layer {
                reading,
                entries: document,
                place,
            },
        )
    }

    /// A table of one layer; its keys are judged here.
    fn of_layer(section: &'static Section, layer: Layer<'a>) -> Self {
        layer.judge_keys(section);
        Self {
            section,
            layers: vec![layer],
        }
    }

    /// The same table with `below` answering for the keys it doesn't have.
    pub(super) fn above(mut self, below: &Self) -> Self {
        self.layers.extend(below.layers.iter().cloned());
        self
    }

    /// The first layer that has any of `keys`, alone: what lies beneath it doesn't answer.
    pub(super) fn layer_with_any(&self, keys: &[&str]) -> Self {
        let first = self
            .layers
            .iter()
            .find(|layer| keys.iter().any(|key| layer.has(key)));
        Self {
            section: self.section,
            layers: first.cloned().into_iter().collect(),
        }
    }

    /// The same, with `given` for `${with:…}` in all layers.
    pub(super) fn giving<'g>(&self, given: &'g Given<'g>) -> Table<'g>
    where
        'a: 'g,
    {
        let mut table: Table<'g> = self.clone();
        for layer in &mut table.layers {
            layer.reading.given = Some(given);
        }
        table
    }

    /// Whether `key` has a value in any layer.
    pub(super) fn has(&self, key: &str) -> bool {
        self.layers.iter().any(|layer| layer.has(key))
    }

    /// Whether `key` was written in any layer, be it for a variable of a module that has no value.
    pub(super) fn is_written(&self, key: &str) -> bool {
        self.layers.iter().any(|layer| layer.entries.contains_key(key))
    }

    /// Where the table stands; `None` when it was not written.
    pub(super) fn place(&self) -> Option<&Place> {
        self.layers.first().map(|layer| &layer.place)
    }

    /// What stands at `key`.
    pub(super) fn value(&self, key: &str) -> Option<Value<'a>> {
        let private = matches!(self.section.kind(key), Some(Kind::Private | Kind::PrivateMap));
        self.layers
            .iter()
            .find_map(|layer| layer.value(key, layer.entries.get(key)?, private).in_place())
    }

    /// Notes every template at a key other than `free`; true when there was one.
    pub(super) fn refuse_templates_but(&self, free: &[&str]) -> bool {
        let keys = self.section.keys.iter().map(|(key, _)| *key);
        let values = keys
            .filter(|key| !free.contains(key))
            .filter_map(|key| self.value(key));
        values.filter(Value::refuse_templates).count() > 0
    }

    /// What stands at `key`, as `how` reads it; a problem of it is noted here.
    pub(super) fn read<T>(&self, key: &str, how: impl Fn(&Value<'a>) -> Result<T, Wrong>) -> Option<T> {
        self.value(key)?.read(how)
    }

    /// `[vars]` and `[secrets]`.
    pub(super) fn settings(&self) -> Arc<Settings> {
        let layer = self.layers.first();
        layer
            .and_then(|layer| layer.reading.settings.get().cloned())
            .unwrap_or_default()
    }

    /// Notes that `key` has to be written in this table.
    pub(super) fn missing(&self, key: &str) {
        if let Some(layer) = self.layers.first() {
            let problem = layer
                .place
                .problem(format!("{key} is missing"), format!("add {key} = …"));
            layer.reading.findings.borrow_mut().problems.push(problem);
        }
    }

    /// Notes that what stands at the first of `keys` that was written is wrong together with others.
    pub(super) fn reject_key(&self, keys: &[&str], wrong: &Wrong) {
        if let Some(value) = keys.iter().find_map(|key| self.value(key)) {
            value.reject(wrong);
        }
    }

    /// The table at `key`, with all layers that have it.
    pub(super) fn table(&self, key: &str) -> Self {
        let Some(Kind::Table(section)) = self.section.kind(key) else {
            return Self {
                section: self.section,
                layers: Vec::new(),
            };
        };
        let found = self.layers.iter().filter_map(|layer| {
            layer
                .value(key, layer.entries.get(key)?, false)
                .in_place()?
                .into_layer(&format!("write it as [{}]", section.name))
        });
        let layers: Vec<_> = found.inspect(|layer| layer.judge_keys(section)).collect();
        Self { section, layers }
    }

    /// The tables of the array at `key`, from the first layer that has it.
    pub(super) fn tables(&self, key: &str) -> Vec<Self> {
        let (Some(Kind::Tables(section)), Some(list)) = (self.section.kind(key), self.value(key)) else {
            return Vec::new();
        };
        let help = format!("write each as [[{}]]", section.name);
        let numbered =
            list.items(&help)
                .unwrap_or_default()
                .into_iter()
                .enumerate()
                .map(|(index, mut item)| {
                    item.place.key = item.numbered_key(key, index);
                    item
                });
        numbered
            .filter_map(|item| item.into_layer(&help))
            .map(|layer| Self::of_layer(section, layer))
            .collect()
    }

    /// The entries of the table at `key`, whose keys are free, in the order written; first layers first.
    pub(super) fn entries(&self, key: &str) -> Vec<(Place, &'a str, Value<'a>)> {
        let private = matches!(self.section.kind(key), Some(Kind::PrivateMap));
        let mut found = Vec::new();
        for layer in &self.layers {
            let Some(table) = layer.entries.get(key) else {
                continue;
            };
            let Some(value) = layer.value(key, table, private).in_place() else {
                continue;
            };
            let Some(map) = value.into_layer(&format!("write it like {key} = {{ Name = \"value\" }}")) else {
                continue;
            };
            let mut entries: Vec<_> = map.entries.iter().collect();
            entries.sort_by_key(|(name, _)| name.span().start);
            for (name, written) in entries {
                let Some(value) = map.value(name.get_ref(), written, private).in_place() else {
                    continue;
                };
                let place = Place {
                    source: Arc::clone(&map.place.source),
                    span: name.span(),
                    private: false,
                    ..value.place.clone()
                };
                found.push((place, &**name.get_ref(), value));
            }
        }
        found
    }
}

impl<'a> Layer<'a> {
    fn has(&self, key: &str) -> bool {
        let written = self.entries.get(key);
        written.is_some_and(|written| self.value(key, written, false).in_place().is_some())
    }

    fn value(&self, key: &str, written: &'a Spanned<DeValue<'a>>, private: bool) -> Value<'a> {
        let separator = if self.place.key.is_empty() { "" } else { "." };
        let place = Place {
            source: Arc::clone(&self.place.source),
            span: written.span(),
            key: format!("{}{separator}{key}", self.place.key),
            private,
        };
        Value {
            reading: self.reading,
            written: written.get_ref(),
            place,
        }
    }

    /// Notes every key that `section` doesn't know or doesn't support.
    fn judge_keys(&self, section: &'static Section) {
        for (key, written) in self.entries {
            let name: &str = key.get_ref();
            let value = self.value(name, written, true);
            let place = Place {
                span: key.span(),
                private: false,
                ..value.place
            };
            let problem = match section.kind(name) {
                Some(Kind::NotYet) => place.problem(
                    format!("`{name}` is not supported by this version of posthaste yet"),
                    "remove it",
                ),
                Some(_) => continue,
                None => place.problem(format!("unknown key `{name}`"), help_for_unknown(section, name)),
            };
            self.reading.findings.borrow_mut().problems.push(problem);
        }
    }
}

fn help_for_unknown(section: &'static Section, name: &str) -> String {
    if let Some(home) = section.home_of(name) {
        return format!("it belongs into [{}]", home.name);
    }
    if let Some(near) = section.nearest(name) {
        return format!("did you mean `{near}`?");
    }
    let known: Vec<_> = section
        .keys
        .iter()
        .filter(|(_, kind)| !matches!(kind, Kind::NotYet))
        .map(|(name, _)| *name)
        .collect();
    format!("known here: {}", known.join(", "))
}

impl<'a> Value<'a> {
    /// The value itself, or the one that stands in its place because it is nothing but a `${with:NAME}`; `None` when NAME
    /// has no value.
    fn in_place(self) -> Option<Self> {
        let (Some(given), Some(written)) = (self.reading.given, self.written.as_str()) else {
            return Some(self);
        };
        let Some(name) = written
            .strip_prefix("${with:")
            .and_then(|rest| rest.strip_suffix('}'))
        else {
            return Some(self);
        };
        if !given.declares(name) {
            return Some(self);
        }
        let mut value = given.value(name)?.clone();
        value.place.private |= self.place.private;
        Some(value)
    }

    /// What `with.…` may name here; `None` where no module is used.
    pub(super) fn given(&self) -> Option<&'a Given<'a>> {
        self.reading.given
    }

    /// The value as `how` reads it; what it finds wrong is noted here.
    pub(super) fn read<T>(&self, how: impl Fn(&Self) -> Result<T, Wrong>) -> Option<T> {
        how(self).map_err(|wrong| self.reject(&wrong)).ok()
    }

    /// Notes that the value is wrong.
    pub(super) fn reject(&self, wrong: &Wrong) {
        self.reject_at(&self.place, wrong);
    }

    /// Notes that what stands at `place`, beside the value, is wrong.
    pub(super) fn reject_at(&self, place: &Place, wrong: &Wrong) {
        let problem = place.problem(wrong.about(place), &*wrong.help);
        self.reading.findings.borrow_mut().problems.push(problem);
    }

    /// Notes that the value is doubtful.
    pub(super) fn warn(&self, wrong: &Wrong) {
        let warning = self.place.problem(wrong.about(&self.place), &*wrong.help);
        self.reading.findings.borrow_mut().warnings.push(warning);
    }

    /// Notes that `form` was made of the value, which is rendered for events.
    pub(super) fn note(&self, form: Form) {
        let noted = Noted::new(&self.place, form);
        self.reading.findings.borrow_mut().noted.push(noted);
    }

    /// `[vars]` and `[secrets]`; empty as long as they are being read.
    pub(super) fn settings(&self) -> Arc<Settings> {
        self.reading.settings.get().cloned().unwrap_or_default()
    }

    /// A string with its references resolved, for those who show it masked.
    pub(super) fn masked(&self) -> Result<Resolved, Wrong> {
        let DeValue::String(written) = self.written else {
            return Err(self.wrong_type("a string"));
        };
        let resolved = match self.reading.secrets {
            Some(secrets) => secrets.resolve(written, self.reading.given)?,
            None => Resolved::literal(written, self.reading.given)?,
        };
        for warning in &resolved.warnings {
            self.warn(warning);
        }
        Ok(resolved)
    }

    /// Anything as JSON, references in its strings resolved.
    pub(super) fn json(&self) -> Result<serde_json::Value, Wrong> {
        let within = |written| self.inner(written);
        Ok(match self.written {
            DeValue::String(_) => self.resolved()?.text.into(),
            DeValue::Integer(_) => self.integer()?.into(),
            DeValue::Float(_) => self.number()?.into(),
            DeValue::Boolean(flag) => (*flag).into(),
            DeValue::Datetime(time) => time.to_string().into(),
            DeValue::Array(items) => items
                .iter()
                .map(|item| within(item).json())
                .collect::<Result<_, _>>()?,
            DeValue::Table(entries) => {
                let members = entries
                    .iter()
                    .map(|(name, written)| Ok((name.get_ref().to_string(), within(written).json()?)));
                serde_json::Value::Object(members.collect::<Result<_, Wrong>>()?)
            }
        })
    }

    /// What stands inside the value.
    fn inner(&self, written: &'a Spanned<DeValue<'a>>) -> Self {
        Self {
            reading: self.reading,
            written: written.get_ref(),
            place: Place {
                span: written.span(),
                ..self.place.clone()
            },
        }
    }

    /// Notes every string in the value in which a template was written, for a key whose strings go out as they are; true
    /// when there was one. What a reference stands for may look like anything.
    pub(super) fn refuse_templates(&self) -> bool {
        let refuse = |value: Self| value.in_place().is_some_and(|value| value.refuse_templates());
        match self.written {
            DeValue::String(text) if text.contains("{{") || text.contains("{%") => {
                let help = match self.reading.secrets {
                    Some(_) => "write a secret as ${env:NAME}, ${file:/path} or ${cred:NAME}",
                    None => "write the secret itself",
                };
                let says = "a template can't stand here: the braces would be sent as they are";
                self.reject(&Wrong::whole(says, help));
                true
            }
            DeValue::Array(items) => items.iter().filter(|item| refuse(self.inner(item))).count() > 0,
            DeValue::Table(entries) => entries.values().filter(|item| refuse(self.inner(item))).count() > 0,
            _ => false,
        }
    }

    /// A string with its references resolved.
    pub(super) fn resolved(&self) -> Result<Resolved, Wrong> {
        let resolved = self.masked()?;
        if resolved.has_secret && !self.place.private {
            self.warn(&Wrong::whole(
                "what this key holds is shown in listings and logs",
                "keep secrets to url, headers and secrets",
            ));
        }
        Ok(resolved)
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Result<bool, Wrong> {
        self.written
            .as_bool()
            .ok_or_else(|| self.wrong_type("true or false"))
    }

    /// A whole number.
    pub(super) fn integer(&self) -> Result<i64, Wrong> {
        let DeValue::Integer(written) = self.written else {
            return Err(self.wrong_type("a whole number"));
        };
        i64::from_str_radix(written.as_str(), written.radix())
            .map_err(|_| Wrong::new("is too large a number", "write a smaller one"))
    }

    /// A number, whole or not.
    pub(super) fn number(&self) -> Result<f64, Wrong> {
        match self.written {
            DeValue::Integer(_) => Ok(self.integer()? as f64),
            DeValue::Float(written) => written
                .as_str()
                .parse()
                .map_err(|_| Wrong::new("is not a number", "write it like 0.5")),
            _ => Err(self.wrong_type("a number")),
        }
    }

    /// Whether a string without anything in it was written.
    pub(super) fn is_empty_text(&self) -> bool {
        self.written.as_str().is_some_and(|text| text.trim().is_empty())
    }

    /// Whether an array was written.
    pub(super) fn is_list(&self) -> bool {
        self.written.is_array()
    }

    /// Whether a table was written.
    pub(super) fn is_table(&self) -> bool {
        self.written.is_table()
    }

    /// Whether nothing was written: an empty string, array or table.
    pub(super) fn is_empty(&self) -> bool {
        match self.written {
            DeValue::String(text) => text.is_empty(),
            DeValue::Array(items) => items.is_empty(),
            DeValue::Table(entries) => entries.is_empty(),
            _ => false,
        }
    }

    /// Whether a string was written.
    pub(super) fn is_text(&self) -> bool {
        self.written.is_str()
    }

    /// The elements of an array.
    pub(super) fn items(&self, help: &str) -> Option<Vec<Self>> {
        let DeValue::Array(items) = self.written else {
            self.reject(&self.wrong_type("an array").or_write(help));
            return None;
        };
        let items = items.iter().map(|item| self.inner(item));
        Some(items.filter_map(Self::in_place).collect())
    }

    /// The elements of an array that must have some; `empty` says why.
    pub(super) fn some_items(&self, help: &str, empty: &str) -> Vec<Self> {
        let items = self.items(help);
        if items.as_ref().is_some_and(Vec::is_empty) {
            self.reject(&Wrong::whole(empty, help));
        }
        items.unwrap_or_default()
    }

    /// The value as a table of `section`, if a table was written.
    pub(super) fn as_table(&self, section: &'static Section) -> Option<Table<'a>> {
        let entries = self.written.as_table()?;
        Some(Table::of_layer(
            section,
            Layer {
                reading: self.reading,
                entries,
                place: self.place.clone(),
            },
        ))
    }

    fn into_layer(self, help: &str) -> Option<Layer<'a>> {
        let DeValue::Table(entries) = self.written else {
            self.reject(&self.wrong_type("a table").or_write(help));
            return None;
        };
        Some(Layer {
            reading: self.reading,
            entries,
            place: self.place,
        })
    }

    /// The key path of the array's element: endpoints go by their name, others by number, counted from 1.
    fn numbered_key(&self, key: &str, index: usize) -> String {
        let name = self
            .written
            .as_table()
            .and_then(|entries| entries.get("name")?.get_ref().as_str());
        match name {
            Some(name) if key == "endpoint" && super::endpoint::is_name(name) => {
                format!("{}.{name}", self.place.key)
            }
            _ => format!("{}[{}]", self.place.key, index + 1),
        }
    }

    /// That something else was expected here.
    pub(super) fn wrong_type(&self, expected: &str) -> Wrong {
        Wrong::new(
            format!("has to be {expected}, not {}", name_of_type(self.written)),
            "",
        )
    }
}

fn name_of_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
