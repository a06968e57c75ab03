//! JSON filters over events (B3): conditions written as JSON beside the members they are about, as users of Convoy,
//! Outpost and Hookdeck know them. Compiled when the configuration is read; an event is matched without any further error.

use std::cell::OnceCell;
use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

/// Conditions in one filter.
const CONDITIONS_MAX: usize = 1000;
/// How deep conditions nest.
const DEPTH_MAX: usize = 32;
/// Memory that one compiled `$regex` may take, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Every operator.
const OPERATORS: [&str; 15] = [
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$in",
    "$nin",
    "$exist",
    "$startsWith",
    "$endsWith",
    "$regex",
    "$or",
    "$and",
    "$not",
];

/// A compiled filter. Equal when it was written the same.
#[derive(Clone, Debug)]
pub struct Filter {
    source: Value,
    root: Condition,
}

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// One sentence, with the path of the member.
    pub says: String,
    /// How to mend it; may be empty.
    pub help: String,
}

/// An event's JSON, parsed when a filter first asks for it.
#[derive(Debug)]
pub struct EventJson<'e> {
    json: &'e [u8],
    parsed: OnceCell<Value>,
}

#[derive(Clone, Debug)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    /// What the member of this name, or at this dotted path, has to meet.
    Member(Box<str>, Box<Condition>),
    Equals(Value),
    /// Compared to the value it has one of these orders.
    Ordered(Value, &'static [Ordering]),
    OneOf(Vec<Value>),
    Contains(Box<str>),
    Exists(bool),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Matches(Regex),
}

impl Filter {
    /// Compiles the JSON object `source`; none when it is empty, which lets everything pass.
    ///
    /// # Errors
    /// Says at which member what is wrong: an unknown operator, an operand of the wrong kind, a bad pattern.
    pub fn compile(source: &Value) -> Result<Option<Self>, FilterError> {
        let mut compiler = Compiler {
            path: Vec::new(),
            conditions: 0,
        };
        let Some(members) = source.as_object() else {
            return Err(compiler.wrong("it is not an object", "write it like { data = { score = 50 } }"));
        };
        if members.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            root: compiler.object(members)?,
            source: source.clone(),
        }))
    }

    /// The filter as written.
    #[must_use]
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Whether `event` passes. An event that is no JSON does not.
    #[must_use]
    pub fn matches(&self, event: &EventJson<'_>) -> bool {
        self.root.holds(Some(event.value()))
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl<'e> EventJson<'e> {
    /// The event that `json` holds, one JSON object; not parsed yet.
    #[must_use]
    pub fn new(json: &'e [u8]) -> Self {
        Self {
            json,
            parsed: OnceCell::new(),
        }
    }

    fn value(&self) -> &Value {
        self.parsed
            .get_or_init(|| serde_json::from_slice(self.json).unwrap_or_default())
    }
}

/// Compiles and knows where it is.
struct Compiler {
    path: Vec<String>,
    conditions: usize,
}

impl Compiler {
    fn wrong(&self, says: impl AsRef<str>, help: impl Into<String>) -> FilterError {
        let at = self.path.join(".");
        FilterError {
            says: if at.is_empty() {
                says.as_ref().to_owned()
            } else {
                format!("at {at}: {}", says.as_ref())
            },
            help: help.into(),
        }
    }

    fn object(&mut self, members: &Map<String, Value>) -> Result<Condition, FilterError> {
        let all = members.iter().map(|(name, operand)| {
            self.path.push(name.clone());
            self.conditions += 1;
            if self.path.len() > DEPTH_MAX || self.conditions > CONDITIONS_MAX {
                return Err(self.wrong("the filter has too many conditions", "use `when` for this"));
            }
            let condition = if name.starts_with('$') {
                self.operator(name, operand)
            } else {
                self.value(operand)
                    .map(|condition| Condition::Member(name.as_str().into(), Box::new(condition)))
            }?;
            self.path.pop();
            Ok(condition)
        });
        let mut all = all.collect::<Result<Vec<_>, _>>()?;
        match all.pop() {
            Some(only) if all.is_empty() => Ok(only),
            last => Ok(Condition::All(all.into_iter().chain(last).collect())),
        }
    }

    /// What stands behind a member's name: conditions on it, a value it has to be, or values it has to hold.
    fn value(&mut self, operand: &Value) -> Result<Condition, FilterError> {
        match operand {
            Value::Object(members) if members.is_empty() => Ok(Condition::Exists(true)),
            Value::Object(members) => self.object(members),
            Value::Array(items) if items.is_empty() => {
                Err(self.wrong("an empty list says nothing", "list what it has to hold"))
            }
            Value::Array(items) => {
                let all: Result<Vec<_>, _> = items.iter().map(|item| self.value(item)).collect();
                all.map(Condition::All)
            }
            scalar => Ok(Condition::Equals(scalar.clone())),
        }
    }

    fn operator(&mut self, name: &str, operand: &Value) -> Result<Condition, FilterError> {
        Ok(match name {
            "$eq" => Condition::Equals(operand.clone()),
            "$ne" => not(Condition::Equals(operand.clone())),
            "$gt" => self.ordered(operand, &[Ordering::Greater])?,
            "$gte" => self.ordered(operand, &[Ordering::Greater, Ordering::Equal])?,
            "$lt" => self.ordered(operand, &[Ordering::Less])?,
            "$lte" => self.ordered(operand, &[Ordering::Less, Ordering::Equal])?,
            "$in" => self.within(operand)?,
            "$nin" => not(self.within(operand)?),
            "$exist" => Condition::Exists(
                operand
                    .as_bool()
                    .ok_or_else(|| self.wrong("it takes true or false", ""))?,
            ),
            "$startsWith" => Condition::StartsWith(self.text(operand)?.into()),
            "$endsWith" => Condition::EndsWith(self.text(operand)?.into()),
            "$regex" => Condition::Matches(self.regex(operand)?),
            "$or" => Condition::Any(self.list(operand)?),
            "$and" => Condition::All(self.list(operand)?),
            "$not" => not(self.value(operand)?),
            _ => {
                let nearest = OPERATORS
                    .iter()
                    .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
                let help = format!("did you mean {}?", nearest.unwrap_or(&"$eq"));
                return Err(self.wrong("there is no such operator", help));
            }
        })
    }

    fn ordered(&self, operand: &Value, orders: &'static [Ordering]) -> Result<Condition, FilterError> {
        if operand.is_number() || operand.is_string() {
            return Ok(Condition::Ordered(operand.clone(), orders));
        }
        Err(self.wrong("it compares with a number or a string", ""))
    }

    fn within(&self, operand: &Value) -> Result<Condition, FilterError> {
        match operand {
            Value::Array(items) => Ok(Condition::OneOf(items.clone())),
            Value::String(part) => Ok(Condition::Contains(part.as_str().into())),
            _ => Err(self.wrong("it takes a list of values, or a text to find", "")),
        }
    }

    fn text<'o>(&self, operand: &'o Value) -> Result<&'o str, FilterError> {
        operand
            .as_str()
            .ok_or_else(|| self.wrong("it takes a string", ""))
    }

    fn regex(&self, operand: &Value) -> Result<Regex, FilterError> {
        RegexBuilder::new(self.text(operand)?)
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|error| {
                let why = error.to_string();
                let last = why
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned();
                self.wrong(format!("the pattern can't be read: {last}"), "")
            })
    }

    fn list(&mut self, operand: &Value) -> Result<Vec<Condition>, FilterError> {
        match operand.as_array() {
            Some(items) if !items.is_empty() => items.iter().map(|item| self.value(item)).collect(),
            _ => Err(self.wrong("it takes a list of conditions", "")),
        }
    }
}

fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

impl Condition {
    /// Whether it holds for `value`; `None`: there is no such member. For a list it holds when it does for the list
    /// itself or for one of its items.
    fn holds(&self, value: Option<&Value>) -> bool {
        match self {
            Self::All(all) => all.iter().all(|condition| condition.holds(value)),
            Self::Any(any) => any.iter().any(|condition| condition.holds(value)),
            Self::Not(condition) => !condition.holds(value),
            Self::Exists(wanted) => value.is_some() == *wanted,
            Self::Member(name, condition) => match value {
                Some(Value::Array(items)) => items.iter().any(|item| condition.holds(member(item, name))),
                Some(value) => condition.holds(member(value, name)),
                None => condition.holds(None),
            },
            scalar => match value {
                Some(value @ Value::Array(items)) => {
                    scalar.holds_for(value) || items.iter().any(|item| scalar.holds_for(item))
                }
                Some(value) => scalar.holds_for(value),
                None => false,
            },
        }
    }

    fn holds_for(&self, value: &Value) -> bool {
        let text = |holds: &dyn Fn(&str) -> bool| value.as_str().is_some_and(holds);
        match self {
            Self::Equals(wanted) => is_same(value, wanted),
            Self::Ordered(wanted, orders) => {
                order(value, wanted).is_some_and(|order| orders.contains(&order))
            }
            Self::OneOf(wanted) => wanted.iter().any(|wanted| is_same(value, wanted)),
            Self::Contains(part) => text(&|text| text.contains(&**part)),
            Self::StartsWith(part) => text(&|text| text.starts_with(&**part)),
            Self::EndsWith(part) => text(&|text| text.ends_with(&**part)),
            Self::Matches(regex) => text(&|text| regex.is_match(text)),
            Self::All(_) | Self::Any(_) | Self::Not(_) | Self::Member(..) | Self::Exists(_) => false,
        }
    }
}

/// The member called `name`; when there is none, the one at `name` read as a dotted path.
fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    value.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        member(value.get(first)?, rest)
    })
}

/// Equality of JSON values, where 1 and 1.0 are the same number.
fn is_same(one: &Value, other: &Value) -> bool {
    one == other || (one.is_number() && order(one, other) == Some(Ordering::Equal))
}

/// Numbers by size, strings by code points (which orders RFC 3339 dates of one zone); nothing else has an order.
fn order(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        (Value::Number(one), Value::Number(other)) => match (one.as_i128(), other.as_i128()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn passes(filter: &Value, event: &Value) -> bool {
        let text = event.to_string();
        let filter = Filter::compile(filter).unwrap().unwrap();
        filter.matches(&EventJson::new(text.as_bytes()))
    }

    /// B3: every operator, on what it is for and beside it.
    #[test]
    fn b3_every_operator_tells_events_apart() {
        let event = json!({
            "type": "contact.created",
            "data": {
                "score": 50, "price": 9.5, "name": "Ada", "vip": true, "none": null, "since": "2026-01-15",
                "tags": ["red", "blue"], "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 5}], "a.b": 1,
            },
        });
        for (filter, expected) in [
            (json!({"type": "contact.created"}), true),
            (json!({"type": "contact.updated"}), false),
            (json!({"data": {"score": 50.0, "vip": true}}), true),
            (json!({"data": {"score": 50, "vip": false}}), false),
            (json!({"data.score": 50}), true),
            (json!({"data": {"a.b": 1}}), true),
            (json!({"data": {"score": {"$eq": 50}}}), true),
            (json!({"data": {"score": {"$ne": 50}}}), false),
            (json!({"data": {"missing": {"$ne": 50}}}), true),
            (json!({"data": {"score": {"$gt": 50}}}), false),
            (json!({"data": {"score": {"$gte": 50, "$lt": 51}}}), true),
            (json!({"data": {"price": {"$lte": 9}}}), false),
            (
                json!({"data": {"since": {"$gte": "2026-01-01", "$lt": "2026-02-01"}}}),
                true,
            ),
            (json!({"data": {"name": {"$gt": 5}}}), false),
            (json!({"data": {"missing": {"$lt": 5}}}), false),
            (json!({"data": {"name": {"$in": ["Ada", "Bob"]}}}), true),
            (json!({"data": {"name": {"$in": "da"}}}), true),
            (json!({"data": {"name": {"$nin": ["Ada"]}}}), false),
            (json!({"data": {"missing": {"$nin": ["Ada"]}}}), true),
            (json!({"data": {"none": {"$exist": true}}}), true),
            (json!({"data": {"missing": {"$exist": false}}}), true),
            (json!({"data": {"missing": {"deeper": {"$exist": true}}}}), false),
            (json!({"data": {"name": {"$startsWith": "A"}}}), true),
            (json!({"data": {"name": {"$endsWith": "A"}}}), false),
            (json!({"data": {"name": {"$regex": "^[A-Z][a-z]+$"}}}), true),
            (json!({"data": {"score": {"$regex": "50"}}}), false),
            (json!({"$or": [{"type": "x"}, {"data": {"vip": true}}]}), true),
            (json!({"data": {"score": {"$or": [1, {"$gt": 60}]}}}), false),
            (
                json!({"$and": [{"type": "contact.created"}, {"data": {"vip": false}}]}),
                false,
            ),
            (json!({"$not": {"type": "contact.created"}}), false),
            (json!({"data": {"name": {"$not": {"$startsWith": "B"}}}}), true),
            (json!({"data": {"tags": "red"}}), true),
            (json!({"data": {"tags": ["red", "blue"]}}), true),
            (json!({"data": {"tags": ["red", "green"]}}), false),
            (json!({"data": {"tags": {"$eq": ["red", "blue"]}}}), true),
            (json!({"data": {"tags": {"$ne": "red"}}}), false),
            (json!({"data": {"items": {"sku": "b", "n": {"$gt": 3}}}}), true),
            (json!({"data": {"none": null}}), true),
            (json!({"data": {"vip": {}}}), true),
        ] {
            assert_eq!(passes(&filter, &event), expected, "{filter}");
        }
    }

    /// B3: a mistake is named with its place.
    #[test]
    fn b3_mistakes_are_named_with_their_place() {
        for (filter, message) in [
            (
                json!({"data": {"score": {"$gtt": 1}}}),
                "at data.score.$gtt: there is no such operator",
            ),
            (
                json!({"data": {"score": {"$gt": []}}}),
                "compares with a number or a string",
            ),
            (
                json!({"data": {"name": {"$regex": "("}}}),
                "the pattern can't be read: unclosed group",
            ),
            (
                json!({"data": {"name": {"$regex": "(a{1000}){1000}"}}}),
                "the pattern can't be read",
            ),
            (json!({"$or": []}), "at $or: it takes a list of conditions"),
            (json!({"data": {"tags": []}}), "an empty list"),
            (json!({"data": {"x": {"$exist": 1}}}), "true or false"),
            (json!({"data": {"x": {"$in": 1}}}), "a list of values"),
            (json!({"data": {"x": {"$startsWith": 1}}}), "a string"),
            (json!([1]), "it is not an object"),
        ] {
            let error = Filter::compile(&filter).unwrap_err();
            assert!(error.says.contains(message), "{filter}: {error:?}");
        }
        let mut deep = json!(1);
        for _ in 0..40 {
            deep = json!({ "a": deep });
        }
        assert!(
            Filter::compile(&deep)
                .unwrap_err()
                .says
                .contains("too many conditions")
        );
        assert_eq!(Filter::compile(&json!({})).unwrap(), None);
    }

    /// An event that can't be parsed passes no filter.
    #[test]
    fn what_is_no_json_does_not_pass() {
        let filter = Filter::compile(&json!({"a": {"$ne": 1}})).unwrap().unwrap();
        assert!(filter.matches(&EventJson::new(b"{}")));
        assert!(
            !Filter::compile(&json!({"a": 1}))
                .unwrap()
                .unwrap()
                .matches(&EventJson::new(b"{"))
        );
    }
}
