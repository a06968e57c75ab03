//! Filters over lists and objects: JSON text, CSV lines, putting objects together and taking members out.

use minijinja::value::{Rest, ValueKind};
use minijinja::{Error, Value};

use super::super::engine::Engine;
use super::super::value::{JsonText, defined, invalid, text_of, write_json};
use super::check_growth;

pub(super) fn register(engine: &mut Engine) {
    engine.filter("compact", Value::from_function(compact));
    engine.filter(
        "tojson",
        Value::from_function(|value: &Value| compact(value).map(|json| Value::from_object(JsonText(json)))),
    );
    engine.filter("fromjson", Value::from_function(from_json));
    engine.filter("csv", Value::from_function(csv));
    engine.filter(
        "merge",
        Value::from_function(|one: &Value, others: Rest<Value>| merge(one, &others)),
    );
    engine.function(
        "merge",
        Value::from_function(|one: &Value, others: Rest<Value>| merge(one, &others)),
    );
    engine.filter(
        "pick",
        Value::from_function(|value: &Value, names: Rest<String>| members(value, &names, true)),
    );
    engine.filter(
        "omit",
        Value::from_function(|value: &Value, names: Rest<String>| members(value, &names, false)),
    );
    engine.filter(
        "keys",
        Value::from_function(|value: &Value| {
            Ok::<_, Error>(pairs(value)?.into_iter().map(|(key, _)| key).collect::<Value>())
        }),
    );
    engine.filter(
        "values",
        Value::from_function(|value: &Value| {
            Ok::<_, Error>(
                pairs(value)?
                    .into_iter()
                    .map(|(_, value)| value)
                    .collect::<Value>(),
            )
        }),
    );
}

/// JSON without white space, members in the order of the event.
fn compact(value: &Value) -> Result<String, Error> {
    defined(value)?;
    let mut json = String::new();
    write_json(value, &mut json, 0)?;
    Ok(json)
}

fn from_json(value: &Value) -> Result<Value, Error> {
    serde_json::from_str(&text_of(value)?).map_err(|error| invalid(format!("it is not JSON: {error}")))
}

/// One line of CSV (RFC 4180) without its end: fields are quoted where they must be.
fn csv(list: &Value, delimiter: Option<char>) -> Result<String, Error> {
    let delimiter = delimiter.unwrap_or(',');
    let mut line = String::new();
    for (index, field) in list.try_iter()?.checked().enumerate() {
        if index > 0 {
            line.push(delimiter);
        }
        let field = text_of(&field?)?;
        if field.contains([delimiter, '"', '\n', '\r']) {
            line.push('"');
            line.push_str(&field.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(&field);
        }
        check_growth(line.len(), 0)?;
    }
    Ok(line)
}

fn pairs(value: &Value) -> Result<Vec<(Value, Value)>, Error> {
    defined(value)?;
    if value.kind() != ValueKind::Map {
        return Err(invalid(format!("it is no object but {}", value.kind())));
    }
    let keys = value.try_iter()?.checked();
    keys.map(|key| {
        let key = key?;
        let member = value.get_item(&key)?;
        Ok((key, member))
    })
    .collect()
}

/// The members of all objects; of two with the same name the later one counts, in the place of the first.
fn merge(one: &Value, others: &[Value]) -> Result<Value, Error> {
    let mut all = pairs(one)?;
    for other in others {
        all.extend(pairs(other)?);
    }
    Ok(Value::from_pairs(all))
}

/// An object of the members called so, or of all others.
fn members(value: &Value, names: &[String], is_wanted: bool) -> Result<Value, Error> {
    let named = |key: &Value| {
        key.as_str()
            .is_some_and(|key| names.iter().any(|name| name == key))
    };
    let kept = pairs(value)?.into_iter();
    Ok(Value::from_pairs(kept.filter(|(key, _)| named(key) == is_wanted)))
}
