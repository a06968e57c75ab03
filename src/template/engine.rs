//! The template engine with our rules in it: what it knows by name, what it may cost, and how a value is printed.
//! Built once; templates and expressions share it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};

use super::limits::{FUEL, WORK_BYTES_MAX};
use super::sink::{JSON, MARK, NOTHING, TEXT};
use super::target::Target;
use super::value::{Printed, invalid, printed};
use super::{filters, limits};

/// Stack depth of one rendering.
const RECURSION_MAX: usize = 64;

/// The environment that everything starts from, and the names it knows.
pub(super) struct Engine {
    pub(super) env: Environment<'static>,
    pub(super) filters: BTreeSet<&'static str>,
    pub(super) tests: BTreeSet<&'static str>,
    pub(super) functions: BTreeSet<&'static str>,
}

/// The one engine.
pub(super) static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::build);

impl Engine {
    fn build() -> Self {
        let mut env = Environment::empty();
        env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_recursion_limit(RECURSION_MAX);
        env.set_fuel(Some(FUEL));
        // Only errors carry what this remembers: which name was undefined, and where.
        env.set_debug(true);
        env.set_syntax(syntax());
        env.set_unknown_method_callback(method);
        let mut engine = Self {
            env,
            filters: BTreeSet::new(),
            tests: BTreeSet::new(),
            functions: BTreeSet::new(),
        };
        filters::register(&mut engine);
        engine
    }

    /// An environment that prints for `target`.
    pub(super) fn printing(&self, target: Target) -> Environment<'static> {
        let mut env = self.env.clone();
        env.set_formatter(move |out, _, value| print(target, out, value));
        env
    }

    /// Makes `filter` known as `name`; what it reads and writes counts against the rendering's bound.
    pub(super) fn filter(&mut self, name: &'static str, filter: Value) {
        self.filters.insert(name);
        self.env.add_filter(name, bounded(filter));
    }

    /// Makes `test` known as `name`, bounded like a filter.
    pub(super) fn test(&mut self, name: &'static str, test: Value) {
        self.tests.insert(name);
        self.env.add_test(name, bounded(test));
    }

    /// Makes `function` known as `name`, bounded like a filter.
    pub(super) fn function(&mut self, name: &'static str, function: Value) {
        self.functions.insert(name);
        self.env.add_function(name, bounded(function));
    }
}

/// Text is kept as written, its last line's end included.
pub(super) fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .keep_trailing_newline(true)
        .build()
        .unwrap_or_default()
}

/// The name that a template's own text has in the engine.
pub(super) const TEMPLATE_NAME: &str = "template";

fn bounded(inner: Value) -> impl Fn(&mut State<'_, '_>, Rest<ValueOrKwargs>) -> Result<Value, Error> {
    move |state, args| {
        let args = args.into_values();
        work(state, args.iter().map(weight).sum())?;
        let result = inner.call(state, &args)?;
        work(state, weight(&result))?;
        Ok(result)
    }
}

/// Bytes read and written by filters so far.
struct Work(usize);

fn work(state: &mut State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let done = state.get_or_insert_extension_with(|| Work(0));
    done.0 = done.0.saturating_add(bytes);
    if done.0 > WORK_BYTES_MAX {
        return Err(Error::from(ErrorKind::OutOfFuel));
    }
    Ok(())
}

/// About how many bytes a call looks at when it is given `value`.
fn weight(value: &Value) -> usize {
    const ITEM_BYTES: usize = 16;
    match value.kind() {
        ValueKind::String | ValueKind::Bytes => value.as_bytes().map_or(0, <[u8]>::len),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            value.len().unwrap_or(0).saturating_mul(ITEM_BYTES)
        }
        _ => ITEM_BYTES,
    }
}

/// Methods of strings, lists and objects, as Python has them. Those that make long strings out of short ones are the
/// filters of the same name, which have a bound.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    work(state, weight(value))?;
    let first = args.first().cloned().unwrap_or(Value::UNDEFINED);
    match (value.kind(), name) {
        (ValueKind::String, "join") => state.apply_filter("join", &[first, value.clone()]),
        (ValueKind::String, "replace") => {
            let mut all = vec![value.clone()];
            all.extend_from_slice(args);
            state.apply_filter("replace", &all)
        }
        (ValueKind::String, "format") => Err(invalid(
            "write 'text %s'|format(value), or put the values side by side",
        )),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// Hands `value` to the [`super::sink::Sink`], marked as a value.
fn print(target: Target, out: &mut Output<'_>, value: &Value) -> Result<(), Error> {
    let (kind, text) = shown(value)?;
    if let Some(why) = target.refuses(&text) {
        return Err(invalid(why));
    }
    let mut chunk = String::with_capacity(text.len() + 2);
    chunk.push(MARK);
    chunk.push(kind);
    chunk.push_str(&text);
    out.write_str(&chunk).map_err(Error::from)
}

/// What `value` looks like when it is printed, and which kind of text that is.
pub(super) fn shown(value: &Value) -> Result<(char, Cow<'_, str>), Error> {
    Ok(match printed(value)? {
        Printed::Nothing => (NOTHING, Cow::default()),
        Printed::Text(text) => (TEXT, text),
        Printed::Json(json) => (JSON, json.into()),
    })
}

/// The environment to render an event of `bytes` in, when the usual one would give it too much fuel.
pub(super) fn throttled(env: &Environment<'static>, bytes: usize) -> Option<Environment<'static>> {
    let fuel = limits::fuel(bytes);
    (fuel < FUEL).then(|| {
        let mut env = env.clone();
        env.set_fuel(Some(fuel));
        env
    })
}
