//! What templates can call: the engine's own filters and tests, as far as they have a bound, and ours. Ours take any
//! value as its text, so that a phone number may be a number.

mod data;
mod dates;
mod digests;
mod text;

pub(super) use self::text::{Change, change};

use minijinja::functions::{dict, range};
use minijinja::{Error, Value, filters, tests};

use super::engine::Engine;
use super::limits::GROWN_BYTES_MAX;
use super::value::invalid;

/// Makes everything known to `engine`. What the engine has beyond this (`batch`, `slice`, `pprint`, `namespace`,
/// `safe` …) can make much out of little, or says how to escape, which is not a template's business.
pub(super) fn register(engine: &mut Engine) {
    builtin_filters(engine);
    builtin_tests(engine);
    engine.function("range", Value::from_function(range));
    engine.function("dict", Value::from_function(dict));
    text::register(engine);
    data::register(engine);
    dates::register(engine);
    digests::register(engine);
}

fn builtin_filters(engine: &mut Engine) {
    for (name, filter) in [
        ("split", Value::from_function(filters::split)),
        ("lines", Value::from_function(filters::lines)),
        ("length", Value::from_function(filters::length)),
        ("count", Value::from_function(filters::length)),
        ("default", Value::from_function(filters::default)),
        ("d", Value::from_function(filters::default)),
        ("round", Value::from_function(filters::round)),
        ("abs", Value::from_function(filters::abs)),
        ("int", Value::from_function(filters::int)),
        ("float", Value::from_function(filters::float)),
        ("bool", Value::from_function(filters::bool)),
        ("attr", Value::from_function(filters::attr)),
        ("items", Value::from_function(filters::items)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("list", Value::from_function(filters::list)),
        ("first", Value::from_function(filters::first)),
        ("last", Value::from_function(filters::last)),
        ("min", Value::from_function(filters::min)),
        ("max", Value::from_function(filters::max)),
        ("sum", Value::from_function(filters::sum)),
        ("sort", Value::from_function(filters::sort)),
        ("reverse", Value::from_function(filters::reverse)),
        ("unique", Value::from_function(filters::unique)),
        ("groupby", Value::from_function(filters::groupby)),
        ("map", Value::from_function(filters::map)),
        ("select", Value::from_function(filters::select)),
        ("reject", Value::from_function(filters::reject)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
    ] {
        engine.filter(name, filter);
    }
}

fn builtin_tests(engine: &mut Engine) {
    for (name, test) in [
        ("defined", Value::from_function(tests::is_defined)),
        ("undefined", Value::from_function(tests::is_undefined)),
        ("none", Value::from_function(tests::is_none)),
        ("boolean", Value::from_function(tests::is_boolean)),
        ("number", Value::from_function(tests::is_number)),
        ("integer", Value::from_function(tests::is_integer)),
        ("float", Value::from_function(tests::is_float)),
        ("string", Value::from_function(tests::is_string)),
        ("sequence", Value::from_function(tests::is_sequence)),
        ("mapping", Value::from_function(tests::is_mapping)),
        ("odd", Value::from_function(tests::is_odd)),
        ("even", Value::from_function(tests::is_even)),
        ("divisibleby", Value::from_function(tests::is_divisibleby)),
        ("lower", Value::from_function(tests::is_lower)),
        ("upper", Value::from_function(tests::is_upper)),
        ("true", Value::from_function(tests::is_true)),
        ("false", Value::from_function(tests::is_false)),
        ("in", Value::from_function(tests::is_in)),
        ("eq", Value::from_function(tests::is_eq)),
        ("equalto", Value::from_function(tests::is_eq)),
        ("==", Value::from_function(tests::is_eq)),
        ("ne", Value::from_function(tests::is_ne)),
        ("!=", Value::from_function(tests::is_ne)),
        ("lt", Value::from_function(tests::is_lt)),
        ("<", Value::from_function(tests::is_lt)),
        ("le", Value::from_function(tests::is_le)),
        ("<=", Value::from_function(tests::is_le)),
        ("gt", Value::from_function(tests::is_gt)),
        (">", Value::from_function(tests::is_gt)),
        ("ge", Value::from_function(tests::is_ge)),
        (">=", Value::from_function(tests::is_ge)),
    ] {
        engine.test(name, test);
    }
}

/// Refuses a string of `bytes` made out of one of `from_bytes`.
fn check_growth(bytes: usize, from_bytes: usize) -> Result<(), Error> {
    if bytes > from_bytes.max(GROWN_BYTES_MAX) {
        return Err(invalid(format!(
            "it would make a text of {bytes} bytes, at most {GROWN_BYTES_MAX} are allowed"
        )));
    }
    Ok(())
}
