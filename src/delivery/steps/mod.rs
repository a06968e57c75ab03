//! The steps of an endpoint: requests to other services around the delivery. Each is made by a courier of its own, so
//! that addresses, credentials, signatures, bounds and rules for answers are those of any other request. [`plan`] says
//! who may begin, [`cache`] keeps answers ([`shelf`] for how long), [`progress`] is what one try has come to so far,
//! `round` is such a try from its first step to its last, and [`show`] is for people. What a delivery comes to is not decided here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::interpret::Verdict;
use super::response::Response;
use super::scene::{Beside, Load};
use super::send::Answer;
use super::{Courier, Couriers, Tried, Unsent, reading};
use crate::domain::backoff::RetryPolicy;
use crate::domain::endpoint::{CannedAnswer, Endpoint, OnError, Stage, Step};
use crate::domain::kept::{self, StepEnd, StepNote};
use crate::domain::outcome::{ErrorClass, Outcome};
use crate::template::{Value, from_json};

pub mod cache;
pub mod plan;
pub(super) mod progress;
mod round;
pub mod shelf;
pub mod show;

use cache::{Cache, Looked};
use plan::{Plan, State};
use progress::Progress;
use shelf::Key;

/// Steps of one try that are under way at once.
const PARALLEL_MAX: usize = 8;

/// What a step has stored.
#[derive(Clone, Debug)]
pub struct Fields {
    /// An object.
    pub value: Value,
    /// What it takes, roughly, in bytes.
    pub bytes: usize,
}

impl Fields {
    fn of(members: serde_json::Map<String, serde_json::Value>) -> Self {
        let json = serde_json::Value::Object(members);
        Self {
            bytes: json.to_string().len(),
            value: from_json(json),
        }
    }
}

/// What asking a service came to: what is stored of its answer, with its status; or the try that failed.
pub type Fetched = Result<(Fields, Option<u16>), Box<Tried>>;

/// How a step ended.
#[derive(Debug)]
enum End {
    /// There is something to append.
    Stored(Fields, StepEnd),
    /// There is nothing, and the delivery goes on.
    Without(StepEnd),
    /// The try at the delivery ends.
    Failed(Box<Tried>),
}

/// The end of one step, and what is told of it.
#[derive(Debug)]
struct Ended {
    end: End,
    status: Option<u16>,
    message: Box<str>,
}

impl Ended {
    fn quietly(end: End, status: Option<u16>) -> Self {
        Self {
            end,
            status,
            message: "".into(),
        }
    }
}

/// What the steps of one stage of a try are carried out with.
pub(super) struct Going<'a> {
    /// When the try at the delivery began.
    pub started: Instant,
    /// The delivery's answer and its bytes; in the stage after it.
    pub response: Option<(Value, usize)>,
    /// `Some`: the try is a trial, which leaves no answers behind and takes none from there. These steps are answered so.
    pub trial: Option<&'a [CannedAnswer]>,
}

/// An endpoint's steps, prepared.
pub(super) struct Steps {
    endpoint: Box<str>,
    steps: Vec<Prepared>,
    plan: Plan,
    /// The bound on the whole try.
    timeout: Duration,
}

/// One step, prepared.
pub(super) struct Prepared {
    pub step: Step,
    pub courier: Courier,
    cache: Option<Arc<Cache>>,
    retry: RetryPolicy,
    default: Option<Fields>,
}

impl Steps {
    /// Those of `endpoint`; `None`: it has none.
    pub fn new(endpoint: &Endpoint, couriers: &Couriers) -> Result<Option<Box<Self>>, String> {
        if endpoint.steps.is_empty() {
            return Ok(None);
        }
        let prepared = endpoint.steps.iter().map(|step| {
            let failed = |why| format!("step {}: {why}", step.name);
            Prepared::new(endpoint, step, couriers).map_err(failed)
        });
        Ok(Some(Box::new(Self {
            endpoint: endpoint.name.clone(),
            steps: prepared.collect::<Result<_, _>>()?,
            plan: Plan::new(&endpoint.steps),
            timeout: endpoint.request.timeout,
        })))
    }

    /// Before the first of them.
    pub fn progress(&self) -> Progress {
        Progress::new(self.steps.len())
    }

    /// The steps, in the order written.
    pub fn all(&self) -> &[Prepared] {
        &self.steps
    }

    /// Whether any runs after the delivery.
    pub fn go_on(&self) -> bool {
        self.plan.goes_on()
    }

    /// What the request of `step` is called, the same on every try: by it a service knows a repeat. A delivery is one
    /// event's to one endpoint, so both stand in it.
    pub fn request_id(&self, load: &Load<'_>, step: &Step) -> Box<str> {
        format!("{}/{}/{}", load.id, self.endpoint, step.name).into()
    }

    /// Carries out the steps of `stage`, side by side where none waits for another.
    ///
    /// # Errors
    /// The end of the try at the delivery, because a step failed; those that were under way are broken off.
    pub async fn run(
        &self,
        stage: Stage,
        load: &Load<'_>,
        going: &Going<'_>,
        progress: &mut Progress,
    ) -> Result<(), Box<Tried>> {
        let mut under_way = FuturesUnordered::new();
        loop {
            let room = PARALLEL_MAX - under_way.len();
            for place in self.plan.ready(stage, &progress.states, room) {
                progress.states[place] = State::UnderWay;
                let request_id = self.request_id(load, &self.steps[place].step);
                let beside = progress.beside(Some(request_id), going.response.clone());
                under_way.push(self.one(place, load, beside, going));
            }
            let Some((place, ended, took)) = under_way.next().await else {
                return Ok(());
            };
            progress.states[place] = State::Over;
            self.enter(place, ended, took, load, progress)?;
        }
    }

    /// The step at `place`. Boxed, because several of them are polled side by side, each where it is.
    fn one<'a>(
        &'a self,
        place: usize,
        load: &'a Load<'_>,
        beside: Beside,
        going: &'a Going<'_>,
    ) -> Pin<Box<dyn Future<Output = (usize, Ended, Duration)> + Send + 'a>> {
        Box::pin(async move {
            let began = Instant::now();
            let load = Load {
                beside: Some(&beside),
                ..*load
            };
            let deadline = going.started + self.timeout;
            let ended = self.steps[place].carry_out(&load, going, deadline).await;
            (place, ended, began.elapsed())
        })
    }

    /// Takes down what became of a step.
    fn enter(
        &self,
        place: usize,
        ended: Ended,
        took: Duration,
        load: &Load<'_>,
        progress: &mut Progress,
    ) -> Result<(), Box<Tried>> {
        let step = &self.steps[place].step;
        let note = StepNote {
            step: step.name.clone(),
            end: ended.end.kind(),
            status: ended.status,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            message: ended.message,
        };
        tracing::debug!(
            endpoint = &*self.endpoint,
            id = load.id,
            step = &*note.step,
            end = note.end.name(),
            status = note.status,
            ms = note.duration_ms,
            message = &*note.message,
            "step"
        );
        progress.note(place, note);
        match ended.end {
            End::Stored(fields, kind) => {
                if kind == StepEnd::Default {
                    progress.flag(&step.flag);
                }
                progress.append(&step.name, fields);
                Ok(())
            }
            // Empty, so that a field of it is what is not there, as where an answer does not have it.
            End::Without(_) => {
                progress.append(&step.name, Fields::of(serde_json::Map::new()));
                Ok(())
            }
            End::Failed(tried) => Err(blamed(tried, step)),
        }
    }
}

/// The end of a try because of a step: its evidence is the step's. What its service says of itself is not said of the
/// endpoint, except that it is to be left alone for a while: without it nothing can be delivered.
fn blamed(mut tried: Box<Tried>, step: &Step) -> Box<Tried> {
    let after = match step.stage {
        Stage::Before => "",
        Stage::After => "delivered, but ",
    };
    tried.attempt.message = format!("{after}step {}: {}", step.name, tried.attempt.message);
    tried.signal.gone = false;
    tried.signal.abort = false;
    tried
}

impl Prepared {
    fn new(endpoint: &Endpoint, step: &Step, couriers: &Couriers) -> Result<Self, String> {
        let caches = &couriers.caches;
        // As far as its request goes, a step is an endpoint.
        let as_endpoint = Endpoint {
            request: step.request.clone(),
            auth: step.auth.clone(),
            sign: step.sign.clone(),
            response: step.response.clone(),
            batch: None,
            steps: Vec::new(),
            ..endpoint.clone()
        };
        Ok(Self {
            courier: couriers.alone(&as_endpoint)?,
            cache: step
                .cache
                .as_ref()
                .map(|policy| caches.of(endpoint, step, policy)),
            retry: endpoint.retry.clone(),
            default: step.default.clone().map(Fields::of),
            step: step.clone(),
        })
    }

    /// Whether its `when` holds; without one it does.
    pub fn is_wanted(&self, load: &Load<'_>) -> Result<bool, String> {
        let Some(when) = &self.step.when else {
            return Ok(true);
        };
        let scope = self.courier.composer.scene().of(load)?;
        when.test(&scope)
            .map_err(|error| format!("`when` can't be worked out: {error}"))
    }

    /// Why it is skipped when its `when` does not hold.
    pub fn unwanted(&self) -> Box<str> {
        let when = self.step.when.as_ref().map_or("", |when| when.source());
        kept::note(&format!("not {when}"))
    }

    async fn carry_out(&self, load: &Load<'_>, going: &Going<'_>, deadline: Instant) -> Ended {
        match self.is_wanted(load) {
            Ok(true) => {}
            Ok(false) => {
                return Ended {
                    end: End::Without(StepEnd::Skipped),
                    status: None,
                    message: self.unwanted(),
                };
            }
            Err(why) => return self.instead(unsent(load, Verdict::unsendable(why)), None),
        }
        let cached = match self.cache.as_ref().filter(|_| going.trial.is_none()) {
            Some(cache) => self.key(load).map(|key| key.map(|key| (&**cache, key))),
            None => Ok(None),
        };
        let (cache, key) = match cached {
            Ok(Some((cache, key))) => (cache, key),
            Ok(None) => return self.concluded(self.fetch(load, going, deadline).await, None),
            Err(why) => return self.instead(unsent(load, Verdict::unsendable(why)), None),
        };
        match cache.look(key, deadline, self.fetch(load, going, deadline)).await {
            Looked::Kept(fields) => Ended::quietly(End::Stored(fields, StepEnd::Cached), None),
            Looked::Fetched(fetched) => self.concluded(fetched, Some((cache, key))),
            Looked::TooLate => {
                let why = "the request that is under way for the same cache key took too long".to_owned();
                self.instead(unsent(load, late(why)), Some((cache, key)))
            }
        }
    }

    /// What its answer is kept under.
    fn key(&self, load: &Load<'_>) -> Result<Option<Key>, String> {
        let Some(policy) = &self.step.cache else {
            return Ok(None);
        };
        let scope = self.courier.composer.scene().of(load)?;
        let text = policy.key.text(&scope);
        let text = text.map_err(|error| format!("`cache.key` can't be worked out: {error}"))?;
        Ok(Some(cache::key(&text)))
    }

    fn concluded(&self, fetched: Fetched, kept: Option<(&Cache, Key)>) -> Ended {
        match fetched {
            Ok((fields, status)) => Ended::quietly(End::Stored(fields, StepEnd::Done), status),
            Err(failed) => self.instead(failed, kept),
        }
    }

    /// What comes in place of an answer (C11). A rejection is an answer, so nothing does.
    fn instead(&self, failed: Box<Tried>, kept: Option<(&Cache, Key)>) -> Ended {
        let (status, message) = (failed.attempt.status, kept::note(&failed.attempt.message));
        let default = || Some(End::Stored(self.default.clone()?, StepEnd::Default));
        let last_good = || {
            let (cache, key) = kept?;
            Some(End::Stored(cache.last_good(&key)?, StepEnd::LastGood))
        };
        let end = match self.step.on_error {
            _ if failed.attempt.outcome == Outcome::Rejected => None,
            OnError::Fail => None,
            OnError::Default => default(),
            OnError::Cached => last_good().or_else(default),
            OnError::Skip => Some(End::Without(StepEnd::LeftOut)),
        };
        Ended {
            end: end.unwrap_or(End::Failed(failed)),
            status,
            message,
        }
    }

    /// Asks, and again as often as the step says when what comes back is worth it.
    async fn fetch(&self, load: &Load<'_>, going: &Going<'_>, deadline: Instant) -> Fetched {
        let mut retries_left = self.step.retries;
        loop {
            let fetched = self.ask(load, going, deadline).await;
            let Err(failed) = &fetched else {
                return fetched;
            };
            let attempt = &failed.attempt;
            let is_worth_it = self.retry.retries_outcome(attempt.outcome, attempt.status);
            if retries_left == 0 || !is_worth_it || Instant::now() >= deadline {
                return fetched;
            }
            retries_left -= 1;
        }
    }

    async fn ask(&self, load: &Load<'_>, going: &Going<'_>, deadline: Instant) -> Fetched {
        let canned = going.trial.unwrap_or_default();
        let canned = canned.iter().find(|answer| *answer.step == *self.step.name);
        let began = Instant::now();
        let left = deadline.saturating_duration_since(began);
        let (tried, answer) = match canned {
            Some(answer) => self.courier.answered(load, Answer::canned(answer)),
            None if left.is_zero() => {
                let why = "no time of the attempt is left for it".to_owned();
                return Err(unsent(load, late(why)));
            }
            None => self.courier.attempt(load, began, left).await,
        };
        match (tried.attempt.outcome, answer) {
            (Outcome::Delivered, Some(answer)) => Ok((self.stored(load, &answer), tried.attempt.status)),
            _ => Err(Box::new(tried)),
        }
    }

    /// What is stored of an answer; null for what it does not have.
    fn stored(&self, load: &Load<'_>, answer: &Answer) -> Fields {
        let response = Value::from_object(Response::new(answer, self.step.response.parse));
        let members = match self.courier.composer.scene().of(load) {
            Ok(scope) => {
                let scope = scope.with("response", response).weighing(answer.body.len());
                reading::values(&self.step.store, &scope)
            }
            Err(_) => serde_json::Map::new(),
        };
        Fields::of(members)
    }
}

fn late(why: String) -> Verdict {
    Verdict::unauthorised(ErrorClass::Timeout, why)
}

/// The end of a step that came to no request.
fn unsent(load: &Load<'_>, verdict: Verdict) -> Box<Tried> {
    let unsent = Unsent {
        verdict,
        status: None,
    };
    Box::new(super::Witness::default().unsent(load, Duration::ZERO, unsent))
}

/// By name: everything else may hold secrets.
impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.steps.iter().map(|prepared| &*prepared.step.name);
        f.debug_list().entries(names).finish()
    }
}
