//! One try at delivering one event or a batch of them, from events to outcome.
//!
//! [`Courier::deliver`] is the whole story: [`render`] makes the request, [`auth`] gives it its credentials, [`sign`]
//! signs it, [`send`] is the only file that opens an HTTP connection ([`dns`] says which addresses to, [`redirect`]
//! where it goes on, [`phases`] how long it took), [`interpret`] reads what came back ([`failure`] names what a broken exchange died of), and
//! [`evidence`] keeps what a person will want to see. All but `send`, `dns` and the tokens of `auth` are pure.
//! Nothing here knows the store, the scheduler or the clock: what to try comes in, what happened goes out,
//! and whether there is another try is decided elsewhere.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use tokio::time::Instant;

use crate::domain::endpoint::Endpoint;
use crate::domain::event::Event;
use crate::domain::outcome::{Attempt, EndpointSignal, Exchange, Outcome};
use crate::domain::time::Timestamp;

pub mod auth;
pub mod batch;
pub mod dns;
pub mod evidence;
pub mod failure;
pub mod interpret;
mod phases;
pub mod redirect;
pub mod render;
pub mod send;
pub mod sign;

#[cfg(test)]
mod tests;

use auth::token::TokenSources;
use auth::{Authenticator, Pass, Unauthorised};
use evidence::Witness;
use interpret::{Judge, Verdict};
use render::{OutgoingRequest, RequestTemplate};
use send::{Answer, Bounds, Clients, Sender, Sent};
use sign::Signer;

/// What one try produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The evidence.
    pub attempt: Attempt,
    /// What the endpoint said beside the outcome.
    pub signal: EndpointSignal,
    /// How long its parts took; zeros if nothing was sent.
    pub exchange: Exchange,
    /// What the answer says of each event by itself, in the order of the events; `None`: the outcome is that of
    /// all of them.
    pub items: Option<Vec<Item>>,
}

/// What the answer to a batch says of one of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// How it ended for this event.
    pub outcome: Outcome,
    /// One sentence why; empty when delivered.
    pub message: String,
}

/// Prepares couriers; keep one for the life of the daemon, so that couriers made after a reload go on
/// using the connections that are open.
#[derive(Debug, Default)]
pub struct Couriers {
    clients: Clients,
    tokens: TokenSources,
}

impl Couriers {
    /// No connections yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Works out everything about requests to `endpoint` that does not depend on the event.
    ///
    /// # Errors
    /// One sentence naming the key (`url`, `headers`, `tls.ca`, `proxy`, `auth`, `sign`) that no request can be made from.
    pub fn prepare(&self, endpoint: &Endpoint) -> Result<Courier, String> {
        let shape = endpoint.batch.as_ref().map(|policy| &policy.shape);
        let template = RequestTemplate::new(&endpoint.request, shape)?;
        let source = |policy: &_| self.tokens.source(policy, &endpoint.request, &self.clients);
        Ok(Courier {
            auth: Authenticator::new(&endpoint.auth, source)?,
            signer: Signer::new(&endpoint.sign)?,
            sender: self.clients.sender(&endpoint.request, template.scheme())?,
            bounds: Bounds {
                timeout: endpoint.request.timeout,
                response_bytes_max: endpoint.request.response_bytes_max,
            },
            judge: Judge {
                address: template.address(),
                success_status: endpoint.response.success_status.clone(),
                retry_after_max: endpoint.retry.max_retry_after,
            },
            witness: Witness::new(&endpoint.request),
            template,
        })
    }
}

/// Makes tries at delivering to one endpoint; prepared once, shared by all of them.
pub struct Courier {
    template: RequestTemplate,
    auth: Authenticator,
    signer: Signer,
    sender: Sender,
    bounds: Bounds,
    judge: Judge,
    witness: Witness,
}

/// Shows where it goes only: everything else may hold secrets.
impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier")
            .field("address", &self.judge.address)
            .finish_non_exhaustive()
    }
}

impl Courier {
    /// Makes try `number` (1 for the first) at delivering `events`, at least one, in one request called `id`,
    /// beginning at `now`. Takes at most the endpoint's `timeout`. Never fails: whatever goes wrong is an outcome.
    pub async fn deliver(&self, events: &[Event], id: &str, number: u32, now: Timestamp) -> Tried {
        let clock = Instant::now();
        let (pass, sent) = match self.exchange(events, id, number, now, clock).await {
            Ok(exchanged) => exchanged,
            Err(unsent) => {
                let mut tried = self
                    .witness
                    .report(number, now, clock.elapsed(), None, None, unsent.verdict);
                tried.attempt.status = unsent.status;
                return tried;
            }
        };
        let took = clock.elapsed();
        let verdict = self.judge.interpret(&sent.result, now.plus(took));
        // Evidence needs the request only of tries that failed: those few are made once more, rather than all copied.
        let request = match verdict.outcome {
            Outcome::Delivered => None,
            _ => self.request_with(&pass, events, id, number, now).ok(),
        };
        let answer = sent.result.ok();
        Tried {
            exchange: sent.exchange,
            ..self
                .witness
                .report(number, now, took, request.as_ref(), answer.as_ref(), verdict)
        }
    }

    /// Sends the request, and again where the endpoint refuses its credentials (401) and there are others to try
    /// (D2, D3); all within the endpoint's `timeout` from `started` on.
    async fn exchange(
        &self,
        events: &[Event],
        id: &str,
        number: u32,
        now: Timestamp,
        started: Instant,
    ) -> Result<(Arc<Pass>, Sent), Unsent> {
        let deadline = started + self.bounds.timeout;
        let mut pass = self.auth.pass(deadline).await?;
        let mut refusals = 0;
        loop {
            let request = self.request_with(&pass, events, id, number, now)?;
            let sent = self.sender.send(request, self.bounds, started).await;
            let is_refused = |answer: &Answer| answer.status == StatusCode::UNAUTHORIZED;
            if !sent.result.as_ref().is_ok_and(is_refused) {
                return Ok((pass, sent));
            }
            refusals += 1;
            match self.auth.after_refusal(&pass, refusals, deadline).await? {
                Some(other) => pass = other,
                None => return Ok((pass, sent)),
            }
        }
    }

    /// The request of one try, as it goes over the wire, but for a token that would have to be fetched first.
    ///
    /// # Errors
    /// One sentence saying why this event cannot be put into a request.
    pub fn request(
        &self,
        events: &[Event],
        id: &str,
        number: u32,
        now: Timestamp,
    ) -> Result<OutgoingRequest, String> {
        self.request_with(&self.auth.preview(), events, id, number, now)
    }

    fn request_with(
        &self,
        pass: &Pass,
        events: &[Event],
        id: &str,
        number: u32,
        now: Timestamp,
    ) -> Result<OutgoingRequest, String> {
        let mut request = self.template.render(events, id, number, now)?;
        pass.put_on(&mut request);
        self.signer.sign(&mut request, now)?;
        Ok(request)
    }
}

/// Why no request was sent.
struct Unsent {
    verdict: Verdict,
    status: Option<u16>,
}

impl From<String> for Unsent {
    fn from(why: String) -> Self {
        Self {
            verdict: Verdict::unsendable(why),
            status: None,
        }
    }
}

impl From<Unauthorised> for Unsent {
    fn from(why: Unauthorised) -> Self {
        Self {
            verdict: Verdict::unauthorised(why.class, why.message),
            status: why.status,
        }
    }
}
