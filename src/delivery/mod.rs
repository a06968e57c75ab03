//! One try at delivering one event or a batch of them, from events to outcome.
//!
//! [`Courier::deliver`] is the whole story: [`render`] makes the request, [`sign`] signs it, [`send`] is the
//! only file that opens an HTTP connection, [`interpret`] reads what came back ([`failure`] names what a
//! broken exchange died of), and [`evidence`] keeps what a person will want to see. All but `send` are pure.
//! Nothing here knows the store, the scheduler or the clock: what to try comes in, what happened goes out,
//! and whether there is another try is decided elsewhere.

use std::fmt;
use tokio::time::Instant;

use crate::domain::endpoint::{Endpoint, RetryMatch};
use crate::domain::event::Event;
use crate::domain::outcome::{Attempt, EndpointSignal, Outcome};
use crate::domain::time::Timestamp;
use crate::template::Globals;

pub mod body;
pub mod evidence;
pub mod failure;
pub mod interpret;
pub mod render;
pub mod scene;
pub mod send;
pub mod sign;

#[cfg(test)]
mod tests;

use evidence::Witness;
use interpret::{Judge, Verdict};
use render::{Composer, Course, OutgoingRequest};
use scene::Load;
use failure::Failure;
use send::{Answer, Bounds, Clients, Sender};
use sign::Signer;

/// What one try produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The evidence.
    pub attempt: Attempt,
    /// What the endpoint said beside the outcome.
    pub signal: EndpointSignal,
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
    pub fn prepare(&self, endpoint: &Endpoint, globals: &Globals) -> Result<Courier, String> {
        let composer = Composer::new(endpoint, globals)?;
        Ok(Courier {
            signer: Signer::new(&endpoint.sign)?,
            sender: self.clients.sender(&endpoint.request, composer.scheme())?,
            response_bytes_max: endpoint.request.response_bytes_max,
            judge: Judge {
                success_status: endpoint.response.success_status.clone(),
                retry_after_max: endpoint.retry.max_retry_after,
            },
            fallback_on: endpoint.request.fallback_on.clone(),
            composer,
        })
    }
}

/// Makes tries at delivering to one endpoint; prepared once, shared by all of them.
pub struct Courier {
    composer: Composer,
    signer: Signer,
    sender: Sender,
    response_bytes_max: usize,
    judge: Judge,
    fallback_on: Vec<RetryMatch>,
}

/// Shows where it goes only: everything else may hold secrets.
impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier")
            .field("address", &self.composer.address())
            .finish_non_exhaustive()
    }
}

/// One request of a try and what came of it.
struct Exchange {
    /// Which of the course's addresses it went to.
    stop: usize,
    sent: Result<Answer, Failure>,
    verdict: Verdict,
}

impl Courier {
    /// Makes try `number` (1 for the first) at delivering `events`, at least one, in one request called `id`,
    /// beginning at `now`. Takes at most the endpoint's `timeout`. Never fails: whatever goes wrong is an outcome.
    pub async fn deliver(&self, events: &[Event], id: &str, number: u32, now: Timestamp) -> Tried {
        let clock = Instant::now();
        let load = Load { events, id, number, now };
        let course = match self.composer.course(&load) {
            Ok(course) => course,
            Err(why) => return evidence::unsent(&load, clock.elapsed(), String::new(), why),
        };
        let exchange = match self.exchange(&load, &course, clock).await {
            Ok(exchange) => exchange,
            Err(why) => return evidence::unsent(&load, clock.elapsed(), self.composer.shown(&course, 0), why),
        };
        let mut witness = Witness::default();
        if exchange.verdict.outcome != Outcome::Delivered {
            // Evidence needs the request only of tries that failed: those few are made once more, rather than all copied.
            witness.request_line = self.composer.shown(&course, exchange.stop);
            witness.headers = self.request(&load, &course, exchange.stop).ok().map(|request| request.headers);
        }
        witness.report(&load, clock.elapsed(), exchange.sent.ok().as_ref(), exchange.verdict)
    }

    /// Sends the request to the first address of the course, and to the next ones as long as what comes back is worth
    /// a fallback; all within the bound on the attempt from `started` on.
    async fn exchange(&self, load: &Load<'_>, course: &Course, started: Instant) -> Result<Exchange, String> {
        let timeout = self.composer.timeout(course);
        let mut stop = 0;
        loop {
            let request = self.request(load, course, stop)?;
            let address = self.composer.address_of(&request.url);
            let bounds = Bounds {
                timeout: timeout.saturating_sub(started.elapsed()),
                response_bytes_max: self.response_bytes_max,
            };
            let sent = self.sender.send(request, bounds).await;
            let verdict = self.judge.interpret(&sent, &address, load.now.plus(started.elapsed()));
            let failed = matches!(verdict.outcome, Outcome::Error(_));
            if stop == 0 {
                self.composer.learn(course, !failed, load.now);
            }
            let is_last = stop + 1 >= self.composer.stops() || started.elapsed() >= timeout;
            if is_last || !self.is_worth_a_fallback(&sent, &verdict) {
                return Ok(Exchange { stop, sent, verdict });
            }
            stop += 1;
        }
    }

    fn is_worth_a_fallback(&self, sent: &Result<Answer, Failure>, verdict: &Verdict) -> bool {
        let Outcome::Error(class) = verdict.outcome else {
            return false;
        };
        let status = sent.as_ref().ok().map(|answer| answer.status.as_u16());
        self.fallback_on.iter().any(|on| on.matches(class, status))
    }

    /// The request of `load` to the address number `stop` of its course, as it goes over the wire.
    ///
    /// # Errors
    /// One sentence saying why these events cannot be put into a request.
    pub fn request(&self, load: &Load<'_>, course: &Course, stop: usize) -> Result<OutgoingRequest, String> {
        let mut request = self.composer.compose(load, course, stop)?;
        self.signer.sign(&mut request)?;
        Ok(request)
    }
}
