//! An endpoint: a destination, what it subscribes to, and the rules for delivering to it. These values are
//! already checked; how they are written down is `config`'s business.

mod auth;
mod batch;
mod body;
mod case;
#[cfg(test)]
pub mod fixture;
mod integration;
mod limits;
mod order;
mod request;
mod response;
mod selection;
mod settings;
mod sign;
pub mod step;
mod tls;

pub use auth::{AuthPolicy, AuthStyle, Grant, OAuth2Policy, Rotate, RotatingPolicy, RotatingValue};
pub use batch::{BatchPolicy, BatchShape, ItemsPolicy};
pub use body::{BodyFormat, BodyPolicy, Compression, DocumentKind, Fields, LineLayout};
pub use case::{CannedAnswer, SavedCase};
pub use integration::Integration;
pub use limits::{BreakerPolicy, Concurrency, RetryMatch};
pub use order::{Order, OrderKey, OrderPolicy};
pub use request::{Address, Balance, RequestPolicy, Route};
pub use response::{Emit, ErrorFields, Parse, ResponsePolicy};
pub use selection::{Judgement, Selection};
pub use settings::Settings;
pub use sign::{
    CustomSign, HmacHash, Preset, SignPolicy, SignScheme, SignatureEncoding, SigningKey, SigningSecret,
    TimestampFormat,
};
pub use step::{CachePolicy, OnError, Stage, Step};
pub use tls::{ClientIdentity, TlsPolicy};

use std::sync::Arc;

use bytes::Bytes;

use super::backoff::RetryPolicy;
use super::rate::Rate;
use super::route::TypePattern;
use super::time::Timestamp;
use crate::template::{Scope, Template, Value};

/// One destination and its policies. `name` is the identity of its queue: renaming makes a new queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// `[a-z0-9-]+`, 1 to 63 bytes.
    pub name: Box<str>,
    /// Free text for people.
    pub description: Box<str>,
    /// A disabled endpoint is owed its events but gets no requests: they are parked.
    pub enabled: bool,
    /// Only events of this tenant; empty: of any.
    pub tenant: Box<str>,
    /// Event types it subscribes to.
    pub events: Vec<TypePattern>,
    /// Which of these it really gets.
    pub selection: Selection,
    /// What templates call data beside `data`.
    pub bind: Box<str>,
    /// `[vars]` and `[secrets]`.
    pub settings: Arc<Settings>,
    /// The module it uses.
    pub integration: Integration,
    /// What a request to it looks like.
    pub request: RequestPolicy,
    /// Who its requests say they come from.
    pub auth: AuthPolicy,
    /// How signatures are made; several may stand side by side.
    pub sign: Vec<SignPolicy>,
    /// How an answer is read.
    pub response: ResponsePolicy,
    /// Requests to other services around a delivery, in the order written.
    pub steps: Vec<Step>,
    /// When to try again, and when to give up.
    pub retry: RetryPolicy,
    /// When to stop trying for a while.
    pub breaker: BreakerPolicy,
    /// How many requests at once.
    pub concurrency: Concurrency,
    /// How fast requests may follow each other; `None`: as fast as they go.
    pub rate: Option<Rate>,
    /// How events are put together in one request; `None`: each goes alone.
    pub batch: Option<BatchPolicy>,
    /// What is kept in order of acceptance.
    pub order: Order,
    /// One try, no dead letter.
    pub best_effort: bool,
    /// Cases to try it out with.
    pub cases: Vec<SavedCase>,
}

impl Endpoint {
    /// What this endpoint's templates and expressions see of the event that `event_json` holds: `event`, `data` and
    /// its second name, `endpoint`, `vars`, `secrets`, `with`, `now`. Whoever has more (`delivery`, `batch`, `appended`,
    /// `response`) adds it by [`Scope::with`].
    #[must_use]
    pub fn scope(&self, event_json: &Bytes, now: Timestamp) -> Scope {
        Scope::new(event_json.clone(), now.0)
            .bind(&self.bind)
            .with("endpoint", Value::from_pairs([("name", &*self.name)]))
            .with("vars", self.settings.vars().clone())
            .with_secrets(self.settings.secrets().clone())
            .with_given(self.integration.given.clone())
    }

    /// The secrets that may stand in its URLs and bodies, where nothing marks them, to be looked for in what is shown.
    #[must_use]
    pub fn secrets(&self) -> Vec<Box<str>> {
        let request = &self.request;
        let addresses = request.addresses.iter().chain(&request.fallbacks);
        let routed = request.routes.iter().filter_map(|route| route.address.as_ref());
        let urls = addresses.chain(routed).map(|address| &address.url);
        let body = match &request.body.format {
            BodyFormat::Document { template, .. } => Some(template),
            _ => None,
        };
        let query = request.query.iter().map(|(_, template)| template);
        let references = urls.chain(query).chain(body).flat_map(Template::references);
        let given = self.integration.given.secrets();
        let all = references.chain(given).chain(self.settings.secrets().values());
        all.map(Box::from).collect()
    }
}
