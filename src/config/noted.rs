//! Templates and expressions with the place where each was written, for whoever renders them and has to say where
//! one failed. What they render is not known here.

use std::fmt;

use super::language;
use super::problem::Problem;
use super::source::Place;
use crate::template::{self, Expression, Scope, Template};

/// A text of an endpoint that is rendered for events.
#[derive(Clone)]
pub struct Noted {
    place: Place,
    /// Its key within the endpoint: `body.template`, `step[1].url`.
    key: Box<str>,
    form: Form,
}

/// What was made of the text.
#[derive(Clone, PartialEq)]
pub(super) enum Form {
    /// A template.
    Template(Template),
    /// An expression.
    Expression(Expression),
}

impl Noted {
    /// `form`, which stands at `place`.
    pub(super) fn new(place: &Place, form: Form) -> Self {
        Self {
            place: place.clone(),
            key: Box::default(),
            form,
        }
    }

    /// Its key within the endpoint, wherever it was written: `body.template`, `step[1].url`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The names it reads from its scope.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (template, expression) = match &self.form {
            Form::Template(template) => (Some(template.names()), None),
            Form::Expression(expression) => (None, Some(expression.names())),
        };
        template
            .into_iter()
            .flatten()
            .chain(expression.into_iter().flatten())
    }

    /// Renders it in `scope`, for what is wrong with it there.
    ///
    /// # Errors
    /// Those of the template or the expression.
    pub fn render(&self, scope: &Scope) -> Result<(), template::Problem> {
        match &self.form {
            Form::Template(template) => template.render(scope).map(drop),
            Form::Expression(expression) => expression.eval(scope).map(drop),
        }
    }

    /// `found` in it, when it was rendered for `whom`, with file, line and key.
    #[must_use]
    pub fn problem(&self, found: template::Problem, whom: &str) -> Problem {
        let wrong = language::wrong(found);
        self.place
            .problem(format!("{whom}: {}", wrong.says), &*wrong.help)
    }
}

/// The texts of the endpoint called `name`, of `found`, which were read for it. Where its own replaces one of its module or of
/// `[defaults]`, which lie beneath it, the latter is left out.
pub(super) fn of_endpoint(found: Vec<Noted>, name: &str) -> Vec<Noted> {
    let own = format!("endpoint.{name}.");
    let mut kept: Vec<Noted> = Vec::with_capacity(found.len());
    for mut noted in found {
        let key = &noted.place.key;
        let within = [&*own, "defaults.", "endpoint."]
            .iter()
            .find_map(|prefix| key.strip_prefix(prefix));
        noted.key = within.unwrap_or(key).into();
        let is_replaced = |known: &Noted| known.key == noted.key && known.place.key != noted.place.key;
        if !kept.iter().any(is_replaced) {
            kept.push(noted);
        }
    }
    kept
}

impl PartialEq for Noted {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.form, &self.place.span) == (&other.key, &other.form, &other.place.span)
    }
}

/// What stands there may be a secret.
impl fmt::Debug for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Noted({})", self.key)
    }
}
