//! An expression: a condition or a value (`data.score >= 50`, `response.lead.id`), without braces.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use minijinja::Value;

use super::compiled::{check_copies, guarded, masked_error};
use super::engine::ENGINE;
use super::limits::EXPRESSION_BYTES_MAX;
use super::lint;
use super::problem::{Problem, RenderError};
use super::quick::Quick;
use super::scope::Scope;
use super::value::text_of;

/// A compiled expression. Cheap to clone; equal when its text is.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    source: Box<str>,
    code: minijinja::Expression<'static, 'static>,
    /// `None`: it needs the engine.
    quick: Option<Quick>,
    names: BTreeSet<Box<str>>,
    settings: BTreeSet<Box<str>>,
    copies: usize,
}

impl Expression {
    /// Compiles `text`.
    ///
    /// # Errors
    /// As [`super::Template::compile`].
    pub fn compile(text: &str) -> Result<Self, Problem> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(Problem::new(
                format!(
                    "the expression has {} bytes, at most {EXPRESSION_BYTES_MAX} are allowed",
                    text.len()
                ),
                "",
            ));
        }
        if let Some(at) = text.find("{{") {
            let help = "write it without {{ }}: data.score >= 50";
            return Err(Problem::new("an expression has no braces around it", help).at(text, at));
        }
        let found = lint::expression(text)?;
        let code = ENGINE
            .env
            .compile_expression_owned(text.to_owned())
            .map_err(|error| Problem::from_engine(&error, text))?;
        Ok(Self(Arc::new(Compiled {
            source: text.into(),
            code,
            copies: found.copies(),
            quick: found.quick,
            names: found.names,
            settings: found.settings,
        })))
    }

    /// The text as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The names it reads from its scope (`data`, `response`, a bound name …), sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.names.iter().map(|name| &**name)
    }

    /// Which of the operator's own values it reads, and of which steps: `vars.flow`, `secrets.crm_key`, `appended.validate`.
    pub fn settings(&self) -> impl Iterator<Item = &str> {
        self.0.settings.iter().map(|setting| &**setting)
    }

    /// Whether its value may hold a secret. Then people are shown what it gives in [`Scope::masked`].
    #[must_use]
    pub fn has_secret(&self) -> bool {
        self.0.names.contains("secrets") || self.0.names.contains("with")
    }

    /// Its value in `scope`; [`Value::is_undefined`] when it names something that is not there.
    ///
    /// # Errors
    /// Comparing or calling what is not there, and exhausted bounds.
    pub fn eval(&self, scope: &Scope) -> Result<Value, RenderError> {
        let quick = self.0.quick.as_ref();
        if let Some(value) = quick.and_then(|quick| quick.value(scope)) {
            return Ok(value);
        }
        check_copies(self.0.copies, scope)?;
        let root = Value::from_dyn_object(scope.0.clone());
        let value = guarded(|| self.0.code.eval(root))?;
        value.map_err(|error| {
            let error = Problem::from_engine(&error, &self.0.source);
            if !self.has_secret() || scope.0.is_masked {
                return error;
            }
            masked_error(error, self.eval(&scope.masked()).err())
        })
    }

    /// Whether it holds in `scope`: false for undefined, null, zero, and empty texts, lists and objects.
    ///
    /// # Errors
    /// As [`Expression::eval`].
    pub fn test(&self, scope: &Scope) -> Result<bool, RenderError> {
        Ok(self.eval(scope)?.is_true())
    }

    /// Its value in `scope` as text: null as nothing, lists and objects as JSON.
    ///
    /// # Errors
    /// As [`Expression::eval`], and when it is undefined.
    pub fn text(&self, scope: &Scope) -> Result<String, RenderError> {
        let value = self.eval(scope)?;
        if value.is_undefined() {
            return Err(Problem::new(
                format!("`{}` is undefined", self.0.source),
                "where it may be missing, write `name or 'another'` or `name|default('')`",
            ));
        }
        text_of(&value).map_err(|error| Problem::from_engine(&error, &self.0.source))
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

impl Eq for Expression {}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.0.source)
    }
}
