//! What templates and expressions see: names and their values. Cheap to copy and to extend; the event is parsed when
//! a template first asks for it, and once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use smallvec::SmallVec;

use super::given::{Given, GivenIn};
use super::members::{self, Written};
use super::moment::Moment;

/// The names of one rendering. `event`, `data` (with its second name, see [`Scope::bind`]) and `now` are always there;
/// the others are added by [`Scope::with`] by whoever has them: `endpoint`, `delivery`, `batch`, `vars`, `appended`, `response`.
#[derive(Clone, Debug)]
pub struct Scope(pub(super) Arc<Names>);

/// The secrets of `[secrets]` by name. Never printed as a whole, not even by a template.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    values: Arc<BTreeMap<Box<str>, Box<str>>>,
    is_masked: bool,
}

/// Names whose values are made when a template asks for them.
pub trait Lookup: Send + Sync {
    /// All of them.
    fn names(&self) -> &'static [&'static str];

    /// The value under `name`, if that is one of them.
    fn look(self: Arc<Self>, name: &str) -> Option<Value>;
}

#[derive(Clone)]
pub(super) struct Names {
    event: LazyEvent,
    now_unix_ms: u64,
    /// Looked at first.
    others: SmallVec<[Named; OTHERS]>,
    lookup: Option<Arc<dyn Lookup>>,
    lasting: Arc<Lasting>,
    /// What there is to look at beside the event.
    more_bytes: usize,
    pub(super) is_masked: bool,
}

/// What mostly stays the same from one event to the next, shared by all scopes that come from one.
#[derive(Clone)]
struct Lasting {
    bind: Option<Arc<str>>,
    named: Vec<Named>,
    secrets: Value,
    given: Given,
}

type Named = (&'static str, Value);

/// An event that is parsed when somebody first asks for it, and once. Cheap to clone.
#[derive(Clone)]
pub struct LazyEvent(Arc<Unread>);

struct Unread {
    json: Bytes,
    parsed: OnceLock<Value>,
}

/// So many names come and go with an event, mostly.
const OTHERS: usize = 2;
/// What stands in place of a secret wherever people look.
pub(super) const MASK: &str = "***";

impl Scope {
    /// The scope of the event that `event_json` holds (one JSON object, UTF-8), at `now_unix_ms` milliseconds since 1970.
    #[must_use]
    pub fn new(event_json: Bytes, now_unix_ms: u64) -> Self {
        let lasting = Lasting {
            bind: None,
            named: Vec::new(),
            secrets: Value::from_object(Secrets::default()),
            given: Given::default(),
        };
        Self(Arc::new(Names {
            event: LazyEvent::new(event_json),
            now_unix_ms,
            others: SmallVec::new(),
            lookup: None,
            lasting: Arc::new(lasting),
            more_bytes: 0,
            is_masked: false,
        }))
    }

    /// A scope where there is no event, for what doesn't depend on one.
    #[must_use]
    pub fn without_event(now_unix_ms: u64) -> Self {
        Self::new(Bytes::from_static(b"{}"), now_unix_ms)
    }

    /// The same with `value` under `name`, in place of what stood there. `value` may be an object with methods
    /// ([`Value::from_object`]).
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        let others = &mut Arc::make_mut(&mut self.0).others;
        match others.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value.into(),
            None => others.push((name, value.into())),
        }
        self
    }

    /// The same, cheaper to copy and to extend: the names that it has so far are shared by its copies.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        let names = Arc::make_mut(&mut self.0);
        let others = std::mem::take(&mut names.others);
        let named = &mut Arc::make_mut(&mut names.lasting).named;
        named.retain(|(known, _)| others.iter().all(|(name, _)| name != known));
        named.extend(others);
        self
    }

    /// The same with the names that `lookup` has, in place of those of another one.
    #[must_use]
    pub fn looking(mut self, lookup: Arc<dyn Lookup>) -> Self {
        Arc::make_mut(&mut self.0).lookup = Some(lookup);
        self
    }

    /// The same with another event; the names stay.
    #[must_use]
    pub fn with_event(mut self, event_json: Bytes) -> Self {
        // The very same bytes need not be parsed again.
        if !self.0.event.holds(&event_json) {
            Arc::make_mut(&mut self.0).event = LazyEvent::new(event_json);
        }
        self
    }

    /// The same at another time, in milliseconds since 1970.
    #[must_use]
    pub fn at(mut self, now_unix_ms: u64) -> Self {
        Arc::make_mut(&mut self.0).now_unix_ms = now_unix_ms;
        self
    }

    /// The event as templates see it.
    #[must_use]
    pub fn event(&self) -> &LazyEvent {
        &self.0.event
    }

    /// The same with the secrets that `secrets.…` reads.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.change().secrets = Value::from_object(secrets);
        self
    }

    /// The same with the values that `with.…` reads.
    #[must_use]
    pub fn with_given(mut self, given: Given) -> Self {
        self.change().given = given;
        self
    }

    /// The same with `data` also known as `name`; empty or `data`: without a second name.
    #[must_use]
    pub fn bind(mut self, name: &str) -> Self {
        self.change().bind = Some(name)
            .filter(|name| !name.is_empty() && *name != "data")
            .map(Arc::from);
        self
    }

    fn change(&mut self) -> &mut Lasting {
        Arc::make_mut(&mut Arc::make_mut(&mut self.0).lasting)
    }

    /// The same with `***` for every secret: what is rendered in it may be shown.
    #[must_use]
    pub fn masked(&self) -> Self {
        let mut masked = self.clone();
        let secrets = &mut masked.change().secrets;
        if let Some(known) = secrets.downcast_object_ref::<Secrets>() {
            let known = Secrets {
                is_masked: true,
                ..known.clone()
            };
            *secrets = Value::from_object(known);
        }
        Arc::make_mut(&mut masked.0).is_masked = true;
        masked
    }

    /// The same, with values of so many more `bytes` in it beside the event: an answer, what steps stored.
    #[must_use]
    pub fn weighing(mut self, bytes: usize) -> Self {
        let more = &mut Arc::make_mut(&mut self.0).more_bytes;
        *more = more.saturating_add(bytes);
        self
    }

    /// Bytes of the event and of what came with it, which every bound on work is measured by.
    pub(super) fn event_bytes(&self) -> usize {
        self.0.event.0.json.len().saturating_add(self.0.more_bytes)
    }
}

impl Secrets {
    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(|name| &**name)
    }

    /// The secrets themselves, to be looked for in what is shown.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.values().map(|value| &**value)
    }

    /// Wraps `values`.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = (Box<str>, Box<str>)>) -> Self {
        Self {
            values: Arc::new(values.into_iter().collect()),
            is_masked: false,
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secrets]")
    }
}

impl Object for Secrets {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        // Plain: the names can be read one by one, never listed or printed together.
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let secret = self.values.get(key.as_str()?)?;
        Some(Value::from(if self.is_masked { MASK } else { secret }))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl LazyEvent {
    /// The event that `json` holds.
    #[must_use]
    pub fn new(json: Bytes) -> Self {
        let parsed = OnceLock::new();
        Self(Arc::new(Unread { json, parsed }))
    }

    /// The event; undefined if it is not JSON.
    #[must_use]
    pub fn value(&self) -> &Value {
        let unread = &self.0;
        unread.parsed.get_or_init(|| members::value(unread.json.clone()))
    }

    /// Its `data`, if it has some.
    #[must_use]
    pub fn data(&self) -> Option<Value> {
        let data = self.value().get_attr("data").ok();
        data.filter(|data| !data.is_undefined())
    }

    /// Whether `json` are the same bytes, not only equal ones.
    fn holds(&self, json: &Bytes) -> bool {
        (self.0.json.as_ptr(), self.0.json.len()) == (json.as_ptr(), json.len())
    }
}

/// What an event holds may be private.
impl fmt::Debug for LazyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[event]")
    }
}

impl Names {
    /// The value that `path` names; `None` when something on the way is not there or wrong, of which the engine has more to say.
    pub(super) fn follow(self: &Arc<Self>, path: &[Box<str>]) -> Option<Value> {
        let (first, members) = path.split_first()?;
        let mut value = self.get_value_by_str(first)?;
        for member in members {
            value = value.get_attr(member).ok()?;
        }
        (!matches!(value.kind(), ValueKind::Undefined | ValueKind::Invalid)).then_some(value)
    }

    /// What `path` names, as it stands in the event, if it is printed so; `None`: it may be something else, see
    /// [`Names::follow`].
    pub(super) fn written(&self, path: &[Box<str>]) -> Option<Written<'_>> {
        let (first, below) = path.split_first()?;
        let event = self.event.value();
        match &**first {
            "event" => members::written(event, below),
            name if self.is_data(name) => members::written(members::member(event, "data")?, below),
            _ => None,
        }
    }

    /// Whether `name` is the event's `data`, or its second name, which any other name goes before.
    fn is_data(&self, name: &str) -> bool {
        name == "data" || self.lasting.bind.as_deref() == Some(name) && !self.has(name)
    }

    fn has(&self, name: &str) -> bool {
        let mut named = self.others.iter().chain(&self.lasting.named);
        let looked = self.lookup.as_ref().map(|lookup| lookup.names());
        named.any(|(known, _)| *known == name) || looked.unwrap_or_default().contains(&name)
    }

    /// What was added under `name`; what comes and goes with the event goes before what lasts.
    fn named(&self, name: &str) -> Option<Value> {
        let of = |named: &[Named]| {
            let found = named.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        };
        of(&self.others)
            .or_else(|| Arc::clone(self.lookup.as_ref()?).look(name))
            .or_else(|| of(&self.lasting.named))
    }
}

/// By name only: a template prints, an error's text shows, and a log holds single values, never the whole scope.
impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[scope]")
    }
}

impl Object for Names {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "event" => Some(self.event.value().clone()),
            "data" => self.event.data(),
            "now" => Some(Value::from_object(Moment::from_unix_ms(self.now_unix_ms))),
            "secrets" => Some(self.lasting.secrets.clone()),
            "with" => Some(GivenIn::value(&self.lasting.given, &Scope(Arc::clone(self)))),
            _ => self.named(key).or_else(|| {
                let is_bound = self.lasting.bind.as_deref() == Some(key);
                is_bound.then(|| self.event.data()).flatten()
            }),
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}
