//! What an endpoint gives to its integration module, as templates see it under `with`. Knows neither modules nor files.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Object, ObjectRepr};

use super::compiled::Template;
use super::expression::Expression;
use super::scope::{MASK, Scope};

/// The values of `with.…` by name. Never printed as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given(Arc<BTreeMap<Box<str>, GivenForm>>);

/// One value.
#[derive(Clone, PartialEq)]
pub enum GivenForm {
    /// The same for every event.
    Value(Value),
    /// A text that is `***` wherever people look.
    Secret(Box<str>),
    /// A text made from the event.
    Template(Template),
    /// A value taken from the event.
    Expression(Expression),
}

/// [`Given`] seen from one scope: what depends on the event is worked out when it is read.
#[derive(Debug)]
pub(super) struct GivenIn {
    given: Given,
    scope: Scope,
}

impl Given {
    /// Wraps `values`. A template or an expression among them must not read `with` itself.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = (Box<str>, GivenForm)>) -> Self {
        Self(Arc::new(values.into_iter().collect()))
    }
}

impl Given {
    /// The secrets among them, to be looked for in what is shown.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.0.values().flat_map(|form| match form {
            GivenForm::Secret(text) => vec![&**text],
            GivenForm::Template(template) => template.references().collect(),
            GivenForm::Value(_) | GivenForm::Expression(_) => Vec::new(),
        })
    }
}

impl GivenIn {
    /// `given`, to be read in `scope`.
    pub(super) fn value(given: &Given, scope: &Scope) -> Value {
        Value::from_object(Self {
            given: given.clone(),
            scope: scope.clone(),
        })
    }
}

impl std::fmt::Debug for GivenForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[given]")
    }
}

impl Object for GivenIn {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        // Plain: read one by one, never listed or printed together, because some may be secrets.
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        let failed = |problem: super::Problem| {
            let says = format!("with.{name}: {problem}");
            Value::from(minijinja::Error::new(
                minijinja::ErrorKind::InvalidOperation,
                says,
            ))
        };
        Some(match self.given.0.get(name)? {
            GivenForm::Value(value) => value.clone(),
            GivenForm::Secret(_) if self.scope.0.is_masked => Value::from(MASK),
            GivenForm::Secret(text) => Value::from(&**text),
            GivenForm::Template(template) => {
                let text = template.render(&self.scope);
                text.map_or_else(failed, Value::from)
            }
            GivenForm::Expression(expression) => expression.eval(&self.scope).unwrap_or_else(failed),
        })
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}
