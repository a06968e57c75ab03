//! What templates and expressions see of one try. Pure; nothing is parsed before a template asks for it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use minijinja::value::Enumerator;

use crate::domain::endpoint::{Endpoint, Judgement};
use crate::domain::event::Event;
use crate::domain::time::Timestamp;
use crate::template::{LazyEvent, Lookup, Object, Scope, Value};

/// What one request carries, and when.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// The events, at least one.
    pub events: &'a [Event],
    /// What the request is called: the event's id, or the batch's.
    pub id: &'a str,
    /// Which try it is, 1 for the first.
    pub number: u32,
    /// When it begins.
    pub now: Timestamp,
    /// What the steps of the try have come to; `None`: there are none.
    pub beside: Option<&'a Beside>,
}

/// What the steps of a try add to what its templates see.
#[derive(Clone, Debug)]
pub struct Beside {
    /// `appended`: what each step has stored, by name.
    pub appended: Value,
    /// `delivery.flags`
    pub flags: Value,
    /// `response`: the delivery's answer, for steps after it.
    pub response: Option<Value>,
    /// Bytes of all that.
    pub bytes: usize,
    /// What the request is called, where it is a step's and not the delivery's own.
    pub request_id: Option<Box<str>>,
}

impl<'a> Load<'a> {
    /// `event` alone, which lends the request its id.
    #[must_use]
    pub fn alone(event: &'a Event, number: u32, now: Timestamp) -> Self {
        Self {
            events: std::slice::from_ref(event),
            id: &event.head.id,
            number,
            now,
            beside: None,
        }
    }

    /// The first event: the one that a request about a single event is about.
    ///
    /// # Errors
    /// There is none.
    pub fn first(&self) -> Result<&'a Event, String> {
        self.events
            .first()
            .ok_or_else(|| "a request needs an event".to_owned())
    }

    /// What a step's request is called; `None`: it is the delivery's own, and called by its id.
    #[must_use]
    pub fn step_id(&self) -> Option<&'a str> {
        self.beside?.request_id.as_deref()
    }
}

/// The part of what templates see that is the same for every try at one endpoint.
#[derive(Clone, Debug)]
pub struct Scene {
    base: Scope,
    /// The member of `batch` that lists the events' `data`, beside `batch.events`; empty: none.
    list: Arc<str>,
}

impl Scene {
    /// For `endpoint`; a batch's `data` are also seen as `batch.<body.wrap>`.
    #[must_use]
    pub fn new(endpoint: &Endpoint) -> Self {
        Self {
            base: endpoint.scope(&Bytes::from_static(b"{}"), Timestamp(0)).lasting(),
            list: (&*endpoint.request.body.wrap).into(),
        }
    }

    /// What the request of `load` sees: its first event, and all of them as `batch`.
    ///
    /// # Errors
    /// There is no event.
    pub fn of(&self, load: &Load<'_>) -> Result<Scope, String> {
        let first = load.first()?;
        let base = self.base.clone();
        let scope = base.with_event(first.json.clone()).at(load.now.0);
        let lazy = |event: &Event| LazyEvent::new(event.json.clone());
        let carried = Carried {
            first: scope.event().clone(),
            others: load.events.iter().skip(1).map(lazy).collect(),
            list: self.list.clone(),
            delivery: Delivery::new(load, first),
        };
        let scope = scope.looking(Arc::new(carried));
        Ok(match load.beside {
            Some(beside) => beside.shown_in(scope),
            None => scope,
        })
    }

    /// What the part of a request sees that is about `event`, when the whole request sees `scope`.
    #[must_use]
    pub fn within(&self, scope: &Scope, event: &Event) -> Scope {
        scope.clone().with_event(event.json.clone())
    }

    /// What is seen where there is no event yet.
    #[must_use]
    pub fn without_event(&self, now: Timestamp) -> Scope {
        self.base.clone().with_event(Bytes::from_static(b"{}")).at(now.0)
    }
}

impl Beside {
    fn shown_in(&self, scope: Scope) -> Scope {
        let scope = scope.with("appended", self.appended.clone()).weighing(self.bytes);
        match &self.response {
            Some(response) => scope.with("response", response.clone()),
            None => scope,
        }
    }
}

/// Whether the event that `load` carries alone is sent, as `when` of its endpoint has it.
///
/// # Errors
/// One sentence: nobody can say, so a try ends here.
pub fn judge(endpoint: &Endpoint, load: &Load<'_>) -> Result<Judgement, String> {
    let event = load.first()?;
    let scope = endpoint.scope(&event.json, load.now);
    let judged = endpoint
        .selection
        .judge(&scope.with("delivery", delivery(load, event)));
    judged.map_err(|error| format!("`when` can't be worked out: {error}"))
}

/// What templates see as `delivery`: the id of the request that carries `event`, which try it is, when the event was
/// accepted, and where there are steps their flags.
fn delivery(load: &Load<'_>, event: &Event) -> Value {
    Value::from_object(Delivery::new(load, event))
}

/// What one request carries, written out as `delivery` and `batch` when a template asks for them.
struct Carried {
    first: LazyEvent,
    others: Vec<LazyEvent>,
    list: Arc<str>,
    delivery: Delivery,
}

impl Lookup for Carried {
    fn names(&self) -> &'static [&'static str] {
        &["delivery", "batch"]
    }

    fn look(self: Arc<Self>, name: &str) -> Option<Value> {
        match name {
            "delivery" => Some(Value::from_object(self.delivery.clone())),
            "batch" => Some(Value::from_object(Batch(self))),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Delivery {
    id: Box<str>,
    attempt: u32,
    accepted: Timestamp,
    /// Of the steps; `None`: there are none.
    flags: Option<Value>,
}

impl Delivery {
    fn new(load: &Load<'_>, event: &Event) -> Self {
        Self {
            id: load.id.into(),
            attempt: load.number,
            accepted: event.head.accepted,
            flags: load.beside.map(|beside| beside.flags.clone()),
        }
    }
}

impl Object for Delivery {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "id" => Some(Value::from(&*self.id)),
            "attempt" => Some(Value::from(self.attempt)),
            "created" => Some(Value::from(self.accepted.to_string())),
            "flags" => self.flags.clone(),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.flags {
            Some(_) => Enumerator::Str(&["id", "attempt", "created", "flags"]),
            None => Enumerator::Str(&["id", "attempt", "created"]),
        }
    }
}

/// `batch`, whose events are parsed when a template asks for them.
struct Batch(Arc<Carried>);

impl Batch {
    fn events(&self) -> impl Iterator<Item = &LazyEvent> {
        std::iter::once(&self.0.first).chain(&self.0.others)
    }

    fn list(&self) -> Option<&str> {
        Some(&*self.0.list).filter(|list| !list.is_empty())
    }
}

/// What events hold may be private.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[batch]")
    }
}

impl Object for Batch {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let data = |event: &LazyEvent| event.data().unwrap_or_default();
        match key.as_str()? {
            "id" => Some(Value::from(&*self.0.delivery.id)),
            "size" => Some(Value::from(1 + self.0.others.len())),
            "events" => Some(self.events().map(|event| event.value().clone()).collect()),
            name if self.list() == Some(name) => Some(self.events().map(data).collect()),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = ["id", "size", "events"].into_iter().chain(self.list());
        Enumerator::Values(names.map(Value::from).collect())
    }
}
