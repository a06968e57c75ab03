//! One try at delivering one event or a batch of them, from events to outcome.
//!
//! [`Courier::deliver`] is the whole story: [`render`] makes the request ([`scene`] is what its templates see, [`body`]
//! what it carries), [`auth`] gives it its credentials, [`sign`] signs it, [`send`] is the only file that opens an HTTP
//! connection ([`dns`] says which addresses to, [`redirect`] where it goes on, [`phases`] how long each part took),
//! [`interpret`] says what came back by its status ([`failure`] names what a broken exchange died of), [`reading`] reads
//! it by the endpoint's own rules ([`response`] is what they see), and [`evidence`] keeps what a person will want to see.
//! [`steps`] are requests to other services around it, each made by a courier of its own.
//! [`trial`] shows all of it to a person who tries it out. All but `send`, `dns`, `phases` and the tokens of `auth` are pure.
//! Nothing here knows the store, the scheduler or the clock: what to try comes in, what happened goes out,
//! and whether there is another try is decided elsewhere.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::domain::endpoint::{Endpoint, Parse, RetryMatch};
use crate::domain::event::Event;
use crate::domain::outcome::{Attempt, Detail, EndpointSignal, Exchange, Outcome};
use crate::domain::time::Timestamp;
use crate::template::Scope;

pub mod auth;
pub mod batch;
pub mod body;
pub mod dns;
pub mod evidence;
pub mod failure;
pub mod fields;
pub mod interpret;
mod phases;
pub mod reading;
pub mod redirect;
pub mod render;
pub mod response;
pub mod scene;
pub mod send;
pub mod sign;
pub mod steps;
pub mod trial;

#[cfg(test)]
mod tests;

use auth::token::TokenSources;
use auth::{Authenticator, Pass, Unauthorised};
use evidence::Witness;
use interpret::{Judge, Verdict};
use reading::{Emission, Reader, Reading};
use render::{Composer, Course, OutgoingRequest};
use scene::Load;
use send::{Answer, Bounds, Clients, Sender, Sent};
use sign::Signer;
use steps::Steps;
use steps::cache::Caches;

/// What one try produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The evidence.
    pub attempt: Attempt,
    /// What the endpoint said beside the outcome.
    pub signal: EndpointSignal,
    /// What the last request took, phase by phase.
    pub exchange: Exchange,
    /// What the answer says of each event by itself, in the order of the events; `None`: the outcome is that of
    /// all of them.
    pub items: Option<Vec<Item>>,
    /// What is born from the answer, as in [`Reading::emissions`].
    pub emissions: Vec<Option<Result<Emission, String>>>,
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
/// using the connections and the tokens that there are.
#[derive(Debug, Default)]
pub struct Couriers {
    clients: Clients,
    tokens: TokenSources,
    caches: Caches,
    detail: Detail,
}

impl Couriers {
    /// No connections yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, but of couriers that report what was said in tries as `detail` has it.
    #[must_use]
    pub fn telling(detail: Detail) -> Self {
        Self {
            detail,
            ..Self::default()
        }
    }

    /// Works out everything about requests to `endpoint` that does not depend on the event.
    ///
    /// # Errors
    /// One sentence naming the key (`url`, `headers`, `tls.ca`, `proxy`, `auth`, `sign`) that no request can be made from.
    pub fn prepare(&self, endpoint: &Endpoint) -> Result<Courier, String> {
        Ok(Courier {
            steps: Steps::new(endpoint, self)?,
            detail: self.detail,
            ..self.alone(endpoint)?
        })
    }

    /// A courier that makes the endpoint's own requests and none of its steps'.
    fn alone(&self, endpoint: &Endpoint) -> Result<Courier, String> {
        let composer = Composer::new(endpoint)?;
        let source = |policy: &_| self.tokens.source(policy, &endpoint.request, &self.clients);
        Ok(Courier {
            auth: Authenticator::new(&endpoint.auth, source)?,
            signer: Signer::new(&endpoint.sign)?,
            sender: self.clients.sender(&endpoint.request, composer.is_plain_http())?,
            response_bytes_max: endpoint.request.response_bytes_max,
            judge: Judge {
                success_status: endpoint.response.success_status.clone(),
                retry_after_max: endpoint.retry.max_retry_after,
            },
            reader: Reader::new(endpoint),
            parse: endpoint.response.parse,
            captures: !endpoint.response.capture.is_empty(),
            fallback_on: endpoint.request.fallback_on.clone(),
            hidden: endpoint.secrets(),
            steps: None,
            detail: Detail::Failed,
            composer,
        })
    }
}

/// Makes tries at delivering to one endpoint; prepared once, shared by all of them.
pub struct Courier {
    composer: Composer,
    auth: Authenticator,
    signer: Signer,
    sender: Sender,
    response_bytes_max: usize,
    judge: Judge,
    /// `None`: the status says everything.
    reader: Option<Reader>,
    parse: Parse,
    /// Whether values of answers are kept.
    captures: bool,
    fallback_on: Vec<RetryMatch>,
    /// Secrets that may stand in requests unmarked.
    hidden: Vec<Box<str>>,
    /// `None`: there is the delivery alone.
    steps: Option<Box<Steps>>,
    /// Of which tries the report tells what was said.
    detail: Detail,
}

/// Shows where it goes only: everything else may hold secrets.
impl fmt::Debug for Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Courier")
            .field("address", &self.composer.address())
            .finish_non_exhaustive()
    }
}

/// The last request of a try, and what came of it.
struct Ended {
    /// Which of the course's addresses it went to.
    stop: usize,
    /// The credentials it had.
    pass: Arc<Pass>,
    /// What was taken down of the request before it was sent, if the report of a try that worked needs anything of it.
    witness: Option<Box<Witness>>,
    sent: Sent,
    reading: Reading,
}

/// The end of a try that came to no request, because of `why`.
#[must_use]
pub fn unsent(load: &Load<'_>, why: String) -> Tried {
    Witness::default().unsent(load, Duration::ZERO, Unsent::from(why))
}

/// Why no request was sent.
struct Unsent {
    verdict: Verdict,
    status: Option<u16>,
}

impl Courier {
    /// Makes try `number` (1 for the first) at delivering `events`, at least one, in one request called `id`,
    /// beginning at `now`. Takes at most the endpoint's `timeout`. Never fails: whatever goes wrong is an outcome.
    pub async fn deliver(&self, events: &[Event], id: &str, number: u32, now: Timestamp) -> Tried {
        let clock = Instant::now();
        let load = Load {
            events,
            id,
            number,
            now,
            beside: None,
        };
        match &self.steps {
            None => self.attempt(&load, clock, Duration::MAX).await.0,
            // Boxed, so that those without steps don't carry their state about.
            Some(steps) => Box::pin(self.deliver_in_steps(steps, &load, clock)).await,
        }
    }

    /// The delivery's own part of a try that began at `started`, which ends within `within` at the latest; and its answer,
    /// if one came.
    async fn attempt(&self, load: &Load<'_>, started: Instant, within: Duration) -> (Tried, Option<Answer>) {
        let course = match self.composer.course(load) {
            Ok(course) => course,
            Err(why) => {
                let unsent = Witness::default().unsent(load, started.elapsed(), Unsent::from(why));
                return (unsent, None);
            }
        };
        let mut ended = match self.go(load, &course, started, within).await {
            Ok(ended) => ended,
            Err(unsent) => {
                let witness = Witness {
                    request_line: self.composer.shown(&course, 0),
                    ..Witness::default()
                };
                return (witness.unsent(load, started.elapsed(), unsent), None);
            }
        };
        let witness = self.witness(load, &course, &mut ended);
        let answer = ended.sent.result.ok();
        let tried = Tried {
            exchange: ended.sent.exchange,
            ..witness.report(load, ended.sent.ended - started, answer.as_ref(), ended.reading)
        };
        (tried, answer)
    }

    /// What the report of a try that worked needs of its request, taken down before that is sent. Where values are
    /// captured, secrets are masked that the answer repeats.
    fn take_down(&self, request: &OutgoingRequest) -> Option<Box<Witness>> {
        match self.detail {
            Detail::All => Some(Box::new(Witness::of(request, Detail::All, &self.hidden))),
            Detail::Failed if !self.captures => None,
            Detail::Failed => {
                let witness = Witness {
                    secrets: evidence::secrets(request, &self.hidden),
                    ..Witness::default()
                };
                (!witness.secrets.is_empty()).then(|| Box::new(witness))
            }
        }
    }

    /// Evidence needs the request of tries that failed: where not all are told of, those few are made once more, rather
    /// than all taken down.
    fn witness(&self, load: &Load<'_>, course: &Course, ended: &mut Ended) -> Witness {
        let taken_down = ended.witness.take().map(|witness| *witness).unwrap_or_default();
        let of_request = match self.detail {
            Detail::Failed if ended.reading.is_delivered() => return taken_down,
            Detail::Failed => {
                let request = self.request_with(&ended.pass, load, course, ended.stop);
                request.map_or_else(
                    |_| Witness::default(),
                    |request| Witness::of(&request, self.detail, &self.hidden),
                )
            }
            Detail::All => taken_down,
        };
        Witness {
            request_line: self.composer.shown(course, ended.stop),
            ..of_request
        }
    }

    /// Whether the log is to tell what was said where it worked, too.
    #[must_use]
    pub fn tells_of_all(&self) -> bool {
        self.detail == Detail::All
    }

    /// Sends the request to the first address of the course, and to the next ones as long as what comes back is worth
    /// a fallback (B5); all within the bound on the attempt from `started` on, and within `within`.
    async fn go(
        &self,
        load: &Load<'_>,
        course: &Course,
        started: Instant,
        within: Duration,
    ) -> Result<Ended, Unsent> {
        let bounds = Bounds {
            timeout: self.composer.timeout(course).min(within),
            response_bytes_max: self.response_bytes_max,
        };
        let mut stop = 0;
        loop {
            let ended = self.exchange(load, course, stop, bounds, started).await?;
            if stop == 0 {
                let worked = !matches!(ended.reading.verdict.outcome, Outcome::Error(_));
                self.composer.learn(course, worked, load.now);
            }
            let is_last = stop + 1 >= self.composer.stops() || started.elapsed() >= bounds.timeout;
            if is_last || !self.is_worth_a_fallback(&ended) {
                return Ok(ended);
            }
            stop += 1;
        }
    }

    /// Sends the request to one address, and again where the endpoint refuses its credentials (401) and there are
    /// others to try (D2, D3).
    async fn exchange(
        &self,
        load: &Load<'_>,
        course: &Course,
        stop: usize,
        bounds: Bounds,
        started: Instant,
    ) -> Result<Ended, Unsent> {
        let deadline = started + bounds.timeout;
        let mut pass = self.auth.pass(deadline).await?;
        let mut refusals = 0;
        loop {
            let request = self.request_with(&pass, load, course, stop)?;
            let address = self.composer.address_of(course, stop, &request.url);
            let witness = self.take_down(&request);
            let sent = self.sender.send(&request, bounds, started).await;
            if sent.status() == Some(StatusCode::UNAUTHORIZED) {
                refusals += 1;
                if let Some(other) = self.auth.after_refusal(&pass, refusals, deadline).await? {
                    pass = other;
                    continue;
                }
            }
            let now = load.now.plus(sent.ended - started);
            return Ok(Ended {
                stop,
                pass,
                witness,
                reading: self.read(load, course.scope(), &sent, &address, now),
                sent,
            });
        }
    }

    /// What came back, by its status and by the endpoint's rules. What broke off on its way is not read.
    fn read(
        &self,
        load: &Load<'_>,
        seen: Option<&Scope>,
        sent: &Sent,
        address: &str,
        now: Timestamp,
    ) -> Reading {
        let verdict = self.judge.interpret(&sent.result, address, now);
        match (&self.reader, &sent.result) {
            (Some(reader), Ok(answer)) if answer.broken.is_none() => {
                reader.read(load, seen, answer, address, verdict)
            }
            _ => verdict.into(),
        }
    }

    fn is_worth_a_fallback(&self, ended: &Ended) -> bool {
        let Outcome::Error(class) = ended.reading.verdict.outcome else {
            return false;
        };
        let status = ended.sent.status().map(|status| status.as_u16());
        self.fallback_on.iter().any(|on| on.matches(class, status))
    }

    /// The request of `load` to the first address of its course, as it goes over the wire, but for a token that would
    /// have to be fetched first.
    ///
    /// # Errors
    /// One sentence saying why these events cannot be put into a request.
    pub fn request(&self, load: &Load<'_>) -> Result<OutgoingRequest, String> {
        let course = self.composer.course(load)?;
        self.request_with(&self.auth.preview(), load, &course, 0)
    }

    fn request_with(
        &self,
        pass: &Pass,
        load: &Load<'_>,
        course: &Course,
        stop: usize,
    ) -> Result<OutgoingRequest, String> {
        let mut request = self.composer.compose(load, course, stop)?;
        pass.put_on(&mut request);
        self.signer.sign(&mut request, load.now)?;
        Ok(request)
    }
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
