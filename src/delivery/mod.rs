//! One try at delivering one event or a batch of them, from events to outcome.
//!
//! [`Courier::deliver`] is the whole story: [`render`] makes the request, [`sign`] signs it, [`send`] is the
//! only file that opens an HTTP connection ([`phases`] tells how long that took), [`interpret`] reads what came back
//! ([`failure`] names what a broken exchange died of), and [`evidence`] keeps what a person will want to see. All but `send` are pure.
//! Nothing here knows the store, the scheduler or the clock: what to try comes in, what happened goes out,
//! and whether there is another try is decided elsewhere.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::endpoint::Endpoint;
use crate::domain::event::Event;
use crate::domain::outcome::{Attempt, EndpointSignal, Exchange, Outcome};
use crate::domain::time::Timestamp;

pub mod batch;
pub mod evidence;
pub mod failure;
pub mod interpret;
mod phases;
pub mod render;
pub mod send;
pub mod sign;

#[cfg(test)]
mod tests;

use evidence::Witness;
use interpret::{Judge, Verdict};
use render::{OutgoingRequest, RequestTemplate};
use send::{Bounds, Clients, Sender};
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
    /// One sentence naming the key (`url`, `headers`, `tls.ca`, `sign`) that no request can be made from.
    pub fn prepare(&self, endpoint: &Endpoint) -> Result<Courier, String> {
        let shape = endpoint.batch.as_ref().map(|policy| &policy.shape);
        let template = RequestTemplate::new(&endpoint.request, shape)?;
        Ok(Courier {
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
        let request = match self.request(events, id, number, now) {
            Ok(request) => request,
            Err(why) => return self.unsent(number, now, why),
        };
        let sent = self.sender.send(request, self.bounds).await;
        let took = clock.elapsed();
        let verdict = self.judge.interpret(&sent.result, now.plus(took));
        // Evidence needs the headers only of tries that failed: those few are made once more, rather than all copied.
        let headers = match verdict.outcome {
            Outcome::Delivered => None,
            _ => self
                .request(events, id, number, now)
                .ok()
                .map(|request| request.headers),
        };
        let answer = sent.result.ok();
        Tried {
            exchange: sent.exchange,
            ..self
                .witness
                .report(number, now, took, headers.as_ref(), answer.as_ref(), verdict)
        }
    }

    fn unsent(&self, number: u32, now: Timestamp, why: String) -> Tried {
        self.witness
            .report(number, now, Duration::ZERO, None, None, Verdict::unsendable(why))
    }

    /// The request of one try, as it goes over the wire.
    ///
    /// # Errors
    /// One sentence saying why these events cannot be put into a request.
    pub fn request(
        &self,
        events: &[Event],
        id: &str,
        number: u32,
        now: Timestamp,
    ) -> Result<OutgoingRequest, String> {
        let mut request = self.template.render(events, id, number, now)?;
        self.signer.sign(&mut request)?;
        Ok(request)
    }
}
