//! A template: text with `{{ … }}`, `{% if %}` and `{% for %}` in it, compiled for its target.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};

use super::engine::{ENGINE, TEMPLATE_NAME, throttled};
use super::limits::{CONCATENATED_BYTES_MAX, SOURCE_BYTES_MAX};
use super::pieces::Pieces;
use super::problem::{Problem, RenderError};
use super::scope::{MASK, Scope};
use super::sink::{Place, Sink, climbing_segment};
use super::target::Target;
use super::value::is_json;
use super::{REFERENCES, lint};

/// So much room at most is made for an event's values before they are printed.
const EXPECTED_BYTES_MAX: usize = 16 << 10;

/// A piece of what the configuration says.
#[derive(Clone, Copy)]
pub enum Part<'a> {
    /// Text as written; template text.
    Written(&'a str),
    /// What a reference (`${env:…}`, `${file:…}`, `${cred:…}`) stands for: data, never template text, and a secret.
    Reference(&'a str),
}

/// A compiled template. Cheap to clone; equal when its text, its references and its target are. `Debug` shows the
/// text as written, with `***` for references.
#[derive(Clone)]
pub struct Template(Arc<Compiled>);

struct Compiled {
    target: Target,
    /// The text for people: references masked.
    shown: Box<str>,
    form: Form,
}

enum Form {
    /// Nothing to fill in.
    Fixed {
        text: Box<str>,
        references: Vec<Box<str>>,
    },
    Made(Box<Made>),
}

struct Made {
    env: Environment<'static>,
    source: Box<str>,
    references: Vec<Box<str>>,
    names: BTreeSet<Box<str>>,
    settings: BTreeSet<Box<str>>,
    copies: usize,
    /// Where its text begins.
    place: Place,
    /// `None`: it needs the engine.
    pieces: Option<Pieces>,
}

impl Template {
    /// Compiles `text` for `target`.
    ///
    /// # Errors
    /// Text that can't be read, names of filters and functions that nobody knows, what the language leaves out
    /// because it has no bound, and text that is too long.
    pub fn compile(text: &str, target: Target) -> Result<Self, Problem> {
        Self::compile_parts(&[Part::Written(text)], target)
    }

    /// Compiles a text that has references of the configuration in it.
    ///
    /// # Errors
    /// As [`Template::compile`], and for a reference inside `{{ … }}` or `{% … %}`.
    pub fn compile_parts(parts: &[Part<'_>], target: Target) -> Result<Self, Problem> {
        let mut shown = String::new();
        let (mut plain, mut source) = (String::new(), String::new());
        let mut references: Vec<Box<str>> = Vec::new();
        let mut has_syntax = false;
        for part in parts {
            match part {
                Part::Written(text) => {
                    has_syntax |= ["{{", "{%", "{#"].iter().any(|opening| text.contains(opening));
                    for all in [&mut shown, &mut plain, &mut source] {
                        all.push_str(text);
                    }
                }
                Part::Reference(text) => {
                    if is_inside_tag(&source) {
                        return Err(Problem::new(
                            "a ${…} stands inside a tag",
                            "give it a name under [secrets] and write secrets.name",
                        )
                        .at(&source, source.len()));
                    }
                    shown.push_str(MASK);
                    plain.push_str(text);
                    source.push_str(&format!("{{{{ {REFERENCES}[{}] }}}}", references.len()));
                    references.push((*text).into());
                }
            }
        }
        check_text(&shown, target)?;
        let needs_escaping = !references.is_empty() && matches!(target, Target::Json | Target::Xml);
        if !has_syntax && references.is_empty() {
            check_fixed(&plain, target)?;
        }
        let form = if has_syntax || needs_escaping {
            Form::Made(Box::new(Made::compile(source, references, target)?))
        } else {
            Form::Fixed {
                text: plain.into(),
                references,
            }
        };
        Ok(Self(Arc::new(Compiled {
            target,
            shown: shown.into(),
            form,
        })))
    }

    /// The text itself when there is nothing to fill in: then rendering costs nothing but this. May hold a secret.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match &self.0.form {
            Form::Fixed { text, .. } => Some(text),
            Form::Made(_) => None,
        }
    }

    /// The text as written, with `***` for references: for people.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.shown
    }

    /// What it was compiled for.
    #[must_use]
    pub fn target(&self) -> Target {
        self.0.target
    }

    /// Whether what it renders may hold a secret. Then people are shown what it renders in [`Scope::masked`].
    #[must_use]
    pub fn has_secret(&self) -> bool {
        match &self.0.form {
            Form::Fixed { references, .. } => !references.is_empty(),
            Form::Made(made) => {
                !made.references.is_empty() || made.names.contains("secrets") || made.names.contains("with")
            }
        }
    }

    /// What the configuration's references (`${env:…}`) in it stand for: secrets.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        let references = match &self.0.form {
            Form::Fixed { references, .. } => references,
            Form::Made(made) => &made.references,
        };
        references.iter().map(|text| &**text)
    }

    /// The names it reads from its scope (`data`, `vars`, a bound name …), sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = match &self.0.form {
            Form::Fixed { .. } => None,
            Form::Made(made) => Some(made.names.iter().map(|name| &**name)),
        };
        names.into_iter().flatten().filter(|name| *name != REFERENCES)
    }

    /// Which of the operator's own values it reads, and of which steps: `vars.flow`, `secrets.crm_key`, `appended.validate`.
    pub fn settings(&self) -> impl Iterator<Item = &str> {
        let settings = match &self.0.form {
            Form::Fixed { .. } => None,
            Form::Made(made) => Some(made.settings.iter().map(|setting| &**setting)),
        };
        settings.into_iter().flatten()
    }

    /// Tries it on an event that has nothing in it: whether what it makes then is whole. For warnings, because a template
    /// may count on its events.
    ///
    /// # Errors
    /// What is wrong with the document around the values: quotes and commas of JSON, tags of XML.
    pub fn trial(&self) -> Result<(), Problem> {
        match &self.0.form {
            Form::Fixed { .. } => Ok(()),
            Form::Made(made) => made.trial(self.0.target),
        }
    }

    /// Renders it in `scope`. In a masked scope ([`Scope::masked`]) secrets come out as `***`.
    ///
    /// # Errors
    /// Undefined values, values that can't stand where they are printed, and exhausted bounds.
    pub fn render(&self, scope: &Scope) -> Result<String, RenderError> {
        match &self.0.form {
            Form::Fixed { references, .. } if !references.is_empty() && scope.0.is_masked => {
                Ok(self.0.shown.to_string())
            }
            Form::Fixed { text, .. } => Ok(text.to_string()),
            Form::Made(made) => made
                .render(scope, self.0.target)
                .map_err(|error| self.without_secrets(error, scope)),
        }
    }

    /// The engine quotes values in its errors: what may quote a secret is said of the masked rendering instead.
    fn without_secrets(&self, error: RenderError, scope: &Scope) -> RenderError {
        if !self.has_secret() || scope.0.is_masked {
            return error;
        }
        masked_error(error, self.render(&scope.masked()).err())
    }
}

impl Made {
    fn compile(source: String, references: Vec<Box<str>>, target: Target) -> Result<Self, Problem> {
        let found = lint::template(&source, target)?;
        let mut env = ENGINE.printing(target);
        env.add_template_owned(TEMPLATE_NAME, source.clone())
            .map_err(|error| Problem::from_engine(&error, &source))?;
        // What references stand for is no part of any scope.
        let pieces = Some(&source).filter(|_| references.is_empty());
        let place = Place::begin(target, found.base_from_config);
        Ok(Self {
            env,
            copies: found.copies(),
            pieces: pieces.and_then(|source| Pieces::of(source, target, place)),
            source: source.into(),
            references,
            names: found.names,
            settings: found.settings,
            place,
        })
    }

    fn render(&self, scope: &Scope, target: Target) -> Result<String, RenderError> {
        check_copies(self.copies, scope)?;
        // Most templates print about what the event holds.
        let bytes = self.source.len() + scope.event_bytes().min(EXPECTED_BYTES_MAX);
        let sink = || Sink::new(target, self.place, bytes);
        if let Some(pieces) = &self.pieces {
            let mut sink = sink();
            if guarded(|| pieces.write(scope, target, &mut sink))?.is_some() {
                return match pieces.is_surely_json() {
                    true => whole(sink),
                    false => finish(sink, target),
                };
            }
        }
        let throttled = throttled(&self.env, scope.event_bytes());
        let env = throttled.as_ref().unwrap_or(&self.env);
        let root = self.root(scope);
        let mut sink = sink();
        guarded(|| write(env, root, &mut sink))?
            .map_err(|error| Problem::from_engine(&error, &self.source))?;
        finish(sink, target)
    }

    /// Renders it for an event that has nothing in it, where what is missing is printed as nothing. What the values are is
    /// not known before there are events; whether the document around them is whole is.
    fn trial(&self, target: Target) -> Result<(), Problem> {
        let mut env = self.env.clone();
        env.set_undefined_behavior(UndefinedBehavior::Chainable);
        let root = self.root(&Scope::without_event(0));
        let mut sink = Sink::new(target, self.place, self.source.len());
        match guarded(|| write(&env, root, &mut sink))? {
            Ok(()) => finish(sink, target).map(|_| ()),
            Err(error) if error.kind() == ErrorKind::WriteFailure => {
                Err(Problem::from_engine(&error, &self.source))
            }
            Err(_) => Ok(()),
        }
    }

    fn root(&self, scope: &Scope) -> Value {
        if self.references.is_empty() {
            return Value::from_dyn_object(scope.0.clone());
        }
        let shown = |text: &str| Value::from(if scope.0.is_masked { MASK } else { text });
        let references: Vec<Value> = self.references.iter().map(|text| shown(text)).collect();
        Value::from_dyn_object(scope.clone().with(REFERENCES, references).0)
    }
}

fn write(env: &Environment<'_>, root: Value, sink: &mut Sink) -> Result<(), minijinja::Error> {
    let template = env.get_template(TEMPLATE_NAME)?;
    template.render_captured_to(root, sink).map(|_| ())
}

/// What may be said of an `error` that may quote a secret: the error of the same in a masked scope, if it fails there too.
pub(super) fn masked_error(error: RenderError, masked: Option<RenderError>) -> RenderError {
    masked.unwrap_or_else(|| Problem {
        says: "it can't be worked out with the secret it reads".to_owned(),
        ..error
    })
}

/// Runs the engine so that an oversight in it ends one rendering, not the task that asked for it.
pub(super) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, RenderError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| {
        Problem::new(
            "the template engine gave up on it",
            "simplify the template, and please report it",
        )
    })
}

/// Each `~` and `+` may copy all of the event, and a list that is written out holds it several times.
pub(super) fn check_copies(count: usize, scope: &Scope) -> Result<(), RenderError> {
    if count.saturating_mul(scope.event_bytes()) > CONCATENATED_BYTES_MAX {
        return Err(Problem::new(
            format!(
                "the event's {} bytes are too many to be copied {count} times by ~ and +",
                scope.event_bytes()
            ),
            "print the values side by side",
        ));
    }
    Ok(())
}

/// All of the text, which does not end in the middle of something.
fn whole(sink: Sink) -> Result<String, RenderError> {
    sink.finish().map_err(|says| Problem::new(says, ""))
}

/// Rules of the target for the whole text.
fn finish(sink: Sink, target: Target) -> Result<String, RenderError> {
    let text = whole(sink)?;
    match target {
        Target::Json => check_json(&text)?,
        Target::Url => {
            if let Some(segment) = climbing_segment(&text) {
                return Err(Problem::new(
                    format!("the URL has the path segment {segment:?}, which leads elsewhere"),
                    "leave such events out by `when`",
                ));
            }
        }
        Target::Text | Target::Xml | Target::Header => {}
    }
    Ok(text)
}

/// Whether `text`, in which nothing is filled, is whole.
fn check_fixed(text: &str, target: Target) -> Result<(), Problem> {
    if !matches!(target, Target::Json | Target::Xml) {
        return Ok(());
    }
    let mut sink = Sink::new(target, Place::begin(target, false), text.len());
    sink.text(text).map_err(|says| Problem::new(says, ""))?;
    finish(sink, target).map(drop)
}

fn check_json(text: &str) -> Result<(), Problem> {
    is_json(text).map_err(|error| {
        Problem::new(
            format!("what it makes is not JSON: {error}"),
            "check commas and quotes around what is printed",
        )
    })
}

/// Whether the end of `source` is between the braces of a tag.
fn is_inside_tag(source: &str) -> bool {
    let last = |ends: [&str; 3]| ends.iter().filter_map(|end| source.rfind(end)).max();
    last(["{{", "{%", "{#"]) > last(["}}", "%}", "#}"])
}

fn check_text(text: &str, target: Target) -> Result<(), Problem> {
    if text.len() > SOURCE_BYTES_MAX {
        return Err(Problem::new(
            format!(
                "the text has {} bytes, at most {SOURCE_BYTES_MAX} are allowed",
                text.len()
            ),
            "",
        ));
    }
    let forbidden = |c: char| c == '\0' || (target == Target::Header && c.is_control() && c != '\t');
    match text.find(forbidden) {
        Some(at) => Err(Problem::new("a control character can't stand here", "take it out").at(text, at)),
        None => Ok(()),
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        let one = (&self.0.form, self.0.target);
        match (one, (&other.0.form, other.0.target)) {
            ((Form::Fixed { text: one, .. }, a), (Form::Fixed { text: other, .. }, b)) => {
                one == other && a == b
            }
            ((Form::Made(one), a), (Form::Made(other), b)) => {
                one.source == other.source && one.references == other.references && a == b
            }
            _ => false,
        }
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.target {
            // Tokens are written out in addresses and headers.
            Target::Url | Target::Header => write!(f, "Template({:?})", self.0.target),
            target => write!(f, "Template({target:?}, {:?})", self.0.shown),
        }
    }
}
