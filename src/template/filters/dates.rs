//! Filters over dates: formats, time zones, ages. What is now comes from the scope.

use minijinja::{Error, State, Value};

use super::super::engine::Engine;
use super::super::moment::Moment;
use super::super::value::invalid;

/// Longest strftime format, in bytes.
const FORMAT_BYTES_MAX: usize = 256;

pub(super) fn register(engine: &mut Engine) {
    engine.filter("date", Value::from_function(date));
    engine.filter(
        "tz",
        Value::from_function(|value: &Value, zone: &str| {
            Moment::read(value)?.in_zone(zone).map(Value::from_object)
        }),
    );
    engine.filter(
        "iso",
        Value::from_function(|value: &Value| Moment::read(value).map(|moment| moment.to_string())),
    );
    engine.filter(
        "unix",
        Value::from_function(|value: &Value| {
            Moment::read(value).map(|moment| moment.0.timestamp().as_second())
        }),
    );
    engine.filter(
        "unix_ms",
        Value::from_function(|value: &Value| {
            Moment::read(value).map(|moment| moment.0.timestamp().as_millisecond())
        }),
    );
    engine.filter("years", Value::from_function(years));
}

/// By strftime(3)'s letters: `data.birth_date|date('%m/%d/%Y')`.
fn date(value: &Value, format: Option<&str>) -> Result<String, Error> {
    let format = format.unwrap_or("%Y-%m-%d");
    if format.len() > FORMAT_BYTES_MAX {
        return Err(invalid(format!(
            "a date's format has at most {FORMAT_BYTES_MAX} bytes"
        )));
    }
    Moment::read(value)?.format(format)
}

/// Whole years from the date until now: an age.
fn years(state: &mut State<'_, '_>, value: &Value) -> Result<i64, Error> {
    let now = state.lookup("now").unwrap_or_default();
    Moment::read(value)?.years_until(&Moment::read(&now)?)
}
