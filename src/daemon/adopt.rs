//! Making a configuration the one in force: every endpoint gets its lane in the store, a courier that
//! makes its requests, and its numbers. All of it is prepared before any of it is used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Config, ControlConfig, IngestConfig};
use crate::control::operator::ReloadReport;
use crate::delivery::{Courier, Couriers};
use crate::domain::endpoint::Endpoint;
use crate::domain::outcome::{Detail, Outcome};
use crate::domain::time::Timestamp;
use crate::ingest::intake::{Intake, RouteTable};
use crate::observe::numbers::Numbers;
use crate::store::committer::Queue;
use crate::store::{AttemptFilter, Deferral, DeliveryId, DueQuery, LaneId, Store, StoreError};

use super::job::Destination;
use crate::trace::tracer::Tracer;

/// So many deferred deliveries of a lane are looked at to learn whether its last tries failed.
const DOUBTS_MAX: usize = 16;

/// What is needed again at each reload.
#[derive(Debug)]
pub struct Workshop {
    queue: Queue,
    intake: Arc<Intake>,
    couriers: Couriers,
    numbers: Mutex<HashMap<LaneId, Arc<Numbers>>>,
    tracer: Option<Arc<Tracer>>,
}

/// A configuration, ready to be put in force.
#[derive(Debug)]
pub struct Prepared {
    /// For ingest: who is owed what.
    pub routes: RouteTable,
    /// For the dispatcher: how to deliver.
    pub destinations: HashMap<LaneId, Arc<Destination>>,
}

impl Workshop {
    /// An empty one; what is born from answers goes to `intake`, and `tracer` is told of tries. `detail`: of which tries
    /// the log is to tell what was said.
    #[must_use]
    pub fn new(queue: Queue, intake: Arc<Intake>, tracer: Option<Arc<Tracer>>, detail: Detail) -> Self {
        Self {
            queue,
            intake,
            couriers: Couriers::telling(detail),
            numbers: Mutex::default(),
            tracer,
        }
    }

    /// Prepares everything `config` asks for. Lanes of new endpoints are made durable on the way, which is
    /// harmless if the rest then fails: an empty lane shows nowhere.
    ///
    /// # Errors
    /// Every endpoint that can't be prepared, a sentence each.
    pub async fn prepare(&self, config: &Config) -> Result<Prepared, Vec<String>> {
        let mut problems = Vec::new();
        let mut lanes = Vec::new();
        let mut destinations = HashMap::new();
        for endpoint in &config.endpoints {
            match self.prepare_one(endpoint, config.log.payloads).await {
                Ok((lane, destination)) => {
                    lanes.push((Arc::clone(endpoint), lane));
                    destinations.insert(lane, Arc::new(destination));
                }
                Err(problem) => problems.push(format!("endpoint {}: {problem}", endpoint.name)),
            }
        }
        if problems.is_empty() {
            Ok(Prepared {
                routes: RouteTable::new(lanes),
                destinations,
            })
        } else {
            Err(problems)
        }
    }

    /// A courier of its own to `endpoint`, over the connections and with the tokens of those in force.
    ///
    /// # Errors
    /// One sentence naming the key that no request can be made from.
    pub fn courier(&self, endpoint: &Endpoint) -> Result<Courier, String> {
        self.couriers.prepare(endpoint)
    }

    async fn prepare_one(
        &self,
        endpoint: &Arc<Endpoint>,
        log_payloads: bool,
    ) -> Result<(LaneId, Destination), String> {
        let courier = self.couriers.prepare(endpoint)?;
        let name = endpoint.name.clone();
        let lane = self
            .queue
            .write(move |store| store.lane(&name))
            .await
            .map_err(|error| error.to_string())?;
        let failed = match self.numbers(lane) {
            None => self.last_failures(lane).await?,
            Some(_) => Vec::new(),
        };
        let doubtful = !failed.is_empty();
        let rests_until = failed.iter().filter_map(rest).max();
        let numbers = Arc::clone(self.lock().entry(lane).or_default());
        if doubtful {
            self.recall(endpoint.name.clone(), failed, Arc::clone(&numbers));
        }
        Ok((
            lane,
            Destination {
                endpoint: Arc::clone(endpoint),
                courier,
                intake: Arc::clone(&self.intake),
                numbers,
                doubtful,
                rests_until,
                log_payloads,
                tracer: self.tracer.clone(),
            },
        ))
    }

    /// What is owed to a lane and waits for another try. Only the deliveries due first are looked at, because there may
    /// be any number of delayed ones behind them.
    async fn last_failures(&self, lane: LaneId) -> Result<Vec<Deferral>, String> {
        let look = move |store: &dyn Store| {
            let query = DueQuery {
                now: Timestamp::MAX,
                deferred_max: DOUBTS_MAX,
                ..DueQuery::default()
            };
            let mut failed = Vec::new();
            for due in store.due(lane, &query)?.deferred {
                let id = DeliveryId { lane, seq: due.seq };
                failed.extend(store.deferral(id, due.was_due.unwrap_or_default())?);
            }
            Ok(failed)
        };
        let looked = self.queue.read(look).await.and_then(|found| found);
        looked.map_err(|error: StoreError| error.to_string())
    }

    /// Lets the numbers of an endpoint know since when it fails, as far as the disk tells. The log is searched beside the
    /// start, which does not wait for it.
    fn recall(&self, name: Box<str>, failed: Vec<Deferral>, numbers: Arc<Numbers>) {
        let queue = self.queue.clone();
        tokio::spawn(async move {
            let found = queue.read(move |store| failing_since(store, name, &failed)).await;
            // Without it the time counts from the first failure that is seen.
            if let Ok(Some(since)) = found {
                numbers.has_failed_since(since);
            }
        });
    }

    /// The numbers of a lane, if it ever was in force.
    #[must_use]
    pub fn numbers(&self, lane: LaneId) -> Option<Arc<Numbers>> {
        self.lock().get(&lane).map(Arc::clone)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<LaneId, Arc<Numbers>>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until when an endpoint asked to be left alone, if that is what a delivery waits for: then it has burnt no try. Of one that
/// has burnt some before it can't be told; it waits for itself alone.
fn rest(deferral: &Deferral) -> Option<Timestamp> {
    let asked = matches!(deferral.last_status, Some(429 | 503)) && deferral.tries == 0;
    asked.then_some(deferral.due)
}

/// The earliest failure that is known of, after the latest try that was answered well.
fn failing_since(store: &dyn Store, endpoint: Box<str>, failed: &[Deferral]) -> Option<Timestamp> {
    let errors = || failed.iter().filter(|deferral| deferral.last_class.is_some());
    let first = errors().map(|deferral| deferral.first_attempt).min()?;
    let answered = AttemptFilter {
        endpoint: Some(endpoint),
        outcomes: Some([Outcome::Delivered, Outcome::Rejected].into_iter().collect()),
        since: Some(first),
        ..AttemptFilter::default()
    };
    let answered = store.attempts(&answered, None, 1).attempts;
    let answered = answered.first().map(|logged| logged.entry.attempt.started);
    let known = errors().flat_map(|deferral| [deferral.first_attempt, deferral.last_attempt]);
    known
        .filter(|at| answered.is_none_or(|answered| *at > answered))
        .min()
}

/// What a reload changes, for whoever asked for it.
#[must_use]
pub fn report(old: &Config, new: &Config) -> ReloadReport {
    let names = |config: &Config| {
        config
            .endpoints
            .iter()
            .map(|e| e.name.to_string())
            .collect::<Vec<_>>()
    };
    let (before, after) = (names(old), names(new));
    let changed = new
        .endpoints
        .iter()
        .filter(|e| old.endpoints.iter().any(|o| o.name == e.name && o != *e));
    ReloadReport {
        hash: new.hash.clone(),
        previous_hash: old.hash.clone(),
        added: after
            .iter()
            .filter(|name| !before.contains(name))
            .cloned()
            .collect(),
        removed: before
            .iter()
            .filter(|name| !after.contains(name))
            .cloned()
            .collect(),
        changed: changed.map(|e| e.name.to_string()).collect(),
        needs_restart: needs_restart(old, new),
    }
}

/// Sections that are only read at the start, where they differ.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let sections = [
        ("store", old.store != new.store),
        ("ingest", ingest_socket(old) != ingest_socket(new)),
        ("control", control_sockets(old) != control_sockets(new)),
        (
            "log",
            (old.log.format, &old.log.level) != (new.log.format, &new.log.level),
        ),
        ("limits", old.limits != new.limits),
        ("traces", old.traces != new.traces),
    ];
    sections
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| format!("[{name}]"))
        .collect()
}

/// `[ingest]` without its rules, which are adopted at once.
fn ingest_socket(config: &Config) -> IngestConfig {
    IngestConfig {
        allow: Vec::new(),
        ..config.ingest.clone()
    }
}

/// `[control]` without the lists and the token, which are asked for at each request.
fn control_sockets(config: &Config) -> ControlConfig {
    ControlConfig {
        operators: Vec::new(),
        readers: Vec::new(),
        token: None,
        ..config.control.clone()
    }
}
