//! The running daemon as its operators and its own signals see it: what is in force, how it is, and how to
//! put another configuration in force.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, broadcast, watch};

use super::trial;
use crate::config::managed::{self, Keys, Texts};
use crate::config::{self, Config};
use crate::control::operator::{
    AlertView, BoxFuture, Defined, EndpointChange, Health, Held, IngestNumbers, LaneNumbers, LiveEvent,
    NotDefined, Operator, ReloadReport, TraceNumbers,
};
use crate::control::types::{Explanation, TestView};
use crate::domain::access::Access;
use crate::domain::time::Timestamp;
use crate::ingest::frame::Code;
use crate::ingest::intake::{Intake, RouteTable};
use crate::ingest::lines::Limits;
use crate::observe::alerts::Alerts;
use crate::observe::numbers::{PHASES, Reading};
use crate::scheduler::{Input, LaneView};
use crate::store::committer::Queue;
use crate::store::{LaneId, StoreError};

use super::adopt::{self, Prepared, Workshop};
use super::clock::Clock;
use super::dispatcher::DispatcherHandle;
use super::traces::Traces;
use super::{managed as files, notify};

/// Endpoints that may be defined over the API; each costs memory and a file.
const MANAGED_MAX: usize = 10_000;

/// What the parts of the running daemon share.
#[derive(Debug)]
pub struct Daemon {
    path: PathBuf,
    config: ArcSwap<Config>,
    /// What the configuration in force was read from. Held while another is being adopted, so that two never mix.
    adopting: Arc<Mutex<Texts>>,
    /// The files of endpoints defined over the API.
    managed: PathBuf,
    workshop: Workshop,
    queue: Queue,
    dispatcher: DispatcherHandle,
    intake: Arc<Intake>,
    clock: Clock,
    traces: Option<Traces>,
    pub(super) alerts: std::sync::Mutex<Alerts>,
}

impl Daemon {
    /// Puts `config`, read from `path` and what else is in `texts`, in force.
    ///
    /// # Errors
    /// Every endpoint that can't be prepared.
    pub async fn start(
        texts: Texts,
        config: Arc<Config>,
        queue: Queue,
        dispatcher: DispatcherHandle,
        clock: Clock,
        traces: Option<Traces>,
    ) -> Result<Arc<Self>, Vec<String>> {
        let limits = Limits {
            event_bytes_max: config.ingest.event_bytes_max,
            batch_bytes_max: config.ingest.batch_bytes_max,
        };
        let routes = RouteTable::default();
        let tracer = traces.as_ref().map(|traces| Arc::clone(&traces.tracer));
        let intake = Intake::new(queue.clone(), routes, limits, Arc::new(Clock::wall));
        let intake = Arc::new(intake.traced(tracer.clone()));
        intake.guard(Access::new(config.ingest.allow.clone()));
        let detail = config.store.attempts_detail;
        let daemon = Self {
            path: texts.main.0.clone(),
            workshop: Workshop::new(queue.clone(), Arc::clone(&intake), tracer, detail),
            adopting: Arc::new(Mutex::new(texts)),
            managed: managed::folder(&config.store),
            queue,
            dispatcher,
            intake,
            clock,
            traces,
            alerts: std::sync::Mutex::default(),
            config: ArcSwap::new(Arc::clone(&config)),
        };
        let prepared = daemon.workshop.prepare(&config).await?;
        daemon.put_in_force(config, prepared);
        Ok(Arc::new(daemon))
    }

    /// The way to the dispatcher.
    #[must_use]
    pub fn dispatcher(&self) -> &DispatcherHandle {
        &self.dispatcher
    }

    /// Becomes `Some` when the store has failed.
    #[must_use]
    pub fn queue_failure(&self) -> watch::Receiver<Option<StoreError>> {
        self.queue.failure()
    }

    /// Deliveries pending, all endpoints together.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.queue.store().lanes().iter().map(|lane| lane.pending).sum()
    }

    /// What the attempts of `lane` have shown since the start.
    #[must_use]
    pub(super) fn reading(&self, lane: LaneId) -> Reading {
        let numbers = self.workshop.numbers(lane);
        numbers
            .map(|numbers| numbers.read(self.clock.now()))
            .unwrap_or_default()
    }

    /// Whether the dispatcher's loop and the committer go round; what the watchdog asks.
    pub async fn makes_progress(&self) -> bool {
        self.dispatcher.views().await.is_some() && self.queue.write(|_| Ok(())).await.is_ok()
    }

    /// Reads the configuration again and puts it in force, all or nothing. What is under way ends by the
    /// rules it began with.
    ///
    /// # Errors
    /// Every problem found; the old configuration stays in force.
    pub async fn reload_config(&self) -> Result<ReloadReport, Vec<String>> {
        let mut texts = self.adopting.lock().await;
        notify::reloading();
        let result = self.try_reload(&mut texts).await;
        match &result {
            Ok(report) => tracing::info!(
                config = report.hash,
                added = ?report.added,
                removed = ?report.removed,
                changed = ?report.changed,
                needs_restart = ?report.needs_restart,
                "reloaded"
            ),
            Err(problems) => {
                tracing::error!(
                    config = self.config.load().hash,
                    "not reloaded; the old configuration stays in force"
                );
                problems.iter().for_each(|problem| tracing::error!("{problem}"));
            }
        }
        notify::ready(&format!("configuration {}", self.config.load().hash));
        result
    }

    async fn try_reload(&self, texts: &mut Texts) -> Result<ReloadReport, Vec<String>> {
        let (path, managed) = (self.path.clone(), self.managed.clone());
        let loaded = tokio::task::spawn_blocking(move || config::reload(&path, &managed))
            .await
            .map_err(|error| vec![format!("reading the configuration broke off: {error}")])?
            .map_err(|problems| problems.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        loaded
            .warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        let config = Arc::new(loaded.config);
        let prepared = self.workshop.prepare(&config).await?;
        let report = adopt::report(&self.config.load(), &config);
        self.put_in_force(config, prepared);
        *texts = loaded.texts;
        Ok(report)
    }

    /// Defines, changes or removes an endpoint of the API's: judged with all the others, written, then in force.
    async fn define(&self, name: String, change: EndpointChange) -> Result<Defined, NotDefined> {
        let mut texts = self.adopting.lock().await;
        let before = texts.keys(&name);
        let text = self.new_text(&name, before.as_ref(), change)?;
        let changed = texts.with(&self.managed, &name, text.clone());
        if changed == *texts {
            return Ok(Defined::Same);
        }
        let loaded = tokio::task::spawn_blocking(move || config::recheck(&changed))
            .await
            .map_err(|error| NotDefined::Unwritten(error.to_string()))?
            .map_err(|problems| {
                NotDefined::Invalid(problems.0.iter().map(|p| p.without_place()).collect())
            })?;
        let config = Arc::new(loaded.config);
        let prepared = self.workshop.prepare(&config).await;
        let prepared = prepared.map_err(NotDefined::Invalid)?;
        let folder = self.managed.clone();
        tokio::task::spawn_blocking(move || match text {
            Some(text) => files::write(&folder, &name, &text),
            None => files::remove(&folder, &name),
        })
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| NotDefined::Unwritten(error.to_string()))?;
        self.put_in_force(config, prepared);
        *texts = loaded.texts;
        Ok(match before {
            None => Defined::New,
            Some(_) => Defined::Changed,
        })
    }

    /// What the file of an endpoint is to say; `None`: it is to go.
    fn new_text(
        &self,
        name: &str,
        before: Option<&Keys>,
        change: EndpointChange,
    ) -> Result<Option<String>, NotDefined> {
        let config = self.config.load();
        let is_configured = config.endpoints.iter().any(|endpoint| *endpoint.name == *name);
        if is_configured && !config.managed.contains(name) {
            return Err(NotDefined::InFile);
        }
        let keys = match (change, before) {
            (EndpointChange::Put(_), None) if config.managed.len() >= MANAGED_MAX => {
                return Err(NotDefined::TooMany(MANAGED_MAX));
            }
            (EndpointChange::Put(keys), _) => keys,
            (_, None) => return Err(NotDefined::Missing),
            (EndpointChange::Delete, Some(_)) => return Ok(None),
            (EndpointChange::Merge(patch), Some(before)) => {
                let mut keys = before.clone();
                managed::merge(&mut keys, &patch);
                keys
            }
        };
        let text = managed::text(name, &keys).map_err(|problem| NotDefined::Invalid(vec![problem]))?;
        Ok(Some(text))
    }

    /// The dispatcher first: it must know a lane before the first event is owed to it.
    fn put_in_force(&self, config: Arc<Config>, prepared: Prepared) {
        self.dispatcher.configure(prepared.destinations);
        self.intake.routes.store(Arc::new(prepared.routes));
        if self.config.load().ingest.allow != config.ingest.allow {
            self.intake.guard(Access::new(config.ingest.allow.clone()));
        }
        self.config.store(config);
    }
}

impl Operator for Daemon {
    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    fn hold_config(&self) -> BoxFuture<'_, Held> {
        let adopting = Arc::clone(&self.adopting);
        Box::pin(async move { Box::new(adopting.lock_owned().await) as Held })
    }

    fn lanes(&self) -> BoxFuture<'_, Vec<LaneView>> {
        Box::pin(async { self.dispatcher.views().await.unwrap_or_default() })
    }

    fn tell(&self, input: Input) {
        self.dispatcher.tell(input);
    }

    fn numbers(&self, lane: LaneId) -> LaneNumbers {
        let reading = self.reading(lane);
        let [p50_ms, p95_ms, p99_ms] = reading.took_ms.map(|took| (took > 0).then_some(took));
        let last = reading.last.as_ref();
        LaneNumbers {
            delivered: reading.delivered,
            rejected: reading.rejected,
            failed: reading.failed,
            errors: reading
                .errors
                .iter()
                .map(|(class, count)| (class.name().to_owned(), *count))
                .collect(),
            expired: reading.expired,
            skipped: reading.skipped,
            unkeyed: reading.unkeyed,
            rate_per_second: reading.delivered_per_second,
            success_rate: reading.success_share,
            error_rates: reading
                .error_shares
                .iter()
                .map(|(class, share)| (class.name().to_owned(), *share))
                .collect(),
            phase_seconds: PHASES
                .iter()
                .zip(reading.phases_us)
                .map(|(phase, us)| ((*phase).to_owned(), us as f64 / 1e6))
                .collect(),
            connections_opened: reading.requests[0],
            connections_reused: reading.requests[1],
            p50_ms,
            p95_ms,
            p99_ms,
            last_status: last.and_then(|last| last.status),
            last_error: last
                .map(|last| last.message.to_string())
                .filter(|message| !message.is_empty()),
            last_attempt: last.map(|last| last.at),
            failing_since: reading.failing_since,
        }
    }

    fn reload(&self) -> BoxFuture<'_, Result<ReloadReport, Vec<String>>> {
        Box::pin(self.reload_config())
    }

    fn change_endpoint(
        &self,
        name: String,
        change: EndpointChange,
    ) -> BoxFuture<'_, Result<Defined, NotDefined>> {
        Box::pin(self.define(name, change))
    }

    fn health(&self) -> Health {
        match &*self.queue.failure().borrow() {
            Some(error) => Health::Failed(error.to_string()),
            None if self.intake.closed().is_some() => Health::Draining,
            None => Health::Ok,
        }
    }

    fn now(&self) -> Timestamp {
        Clock::wall()
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(self.clock.now().mono_ms)
    }

    fn news(&self) -> broadcast::Receiver<LiveEvent> {
        self.dispatcher.listen()
    }

    fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    fn explain(&self, event: String) -> BoxFuture<'_, Result<Explanation, String>> {
        Box::pin(async move {
            let now = Clock::wall();
            let event = trial::event(&event, &self.intake.limits, now)?;
            let config = self.config.load_full();
            let prepared = |endpoint| self.workshop.courier(endpoint);
            let endpoints: Vec<_> = config.endpoints.iter().map(|e| (&**e, prepared(e))).collect();
            Ok(trial::explain(&event, &endpoints, now))
        })
    }

    fn try_out(&self, endpoint: String, event: Option<String>) -> BoxFuture<'_, Result<TestView, String>> {
        Box::pin(async move {
            let now = Clock::wall();
            let is_ping = event.is_none();
            let event = trial::marked(event.as_deref(), &self.intake.limits, now)?;
            let config = self.config.load_full();
            let found = config.endpoints.iter().find(|e| *e.name == *endpoint);
            let found = found.ok_or_else(|| format!("there is no endpoint {endpoint:?}"))?;
            let courier = self.workshop.courier(found)?;
            let tried = match is_ping {
                // A ping asks whether the endpoint answers; `when` is about events that were meant for it.
                true => courier.try_out(&event, now, &[]).await,
                false => trial::try_out(found, &courier, &event, now, &[]).await,
            };
            Ok(trial::tested(endpoint, tried))
        })
    }

    fn traces(&self) -> Option<TraceNumbers> {
        self.traces.as_ref().map(Traces::numbers)
    }

    fn alerts(&self) -> Vec<AlertView> {
        self.raised_alerts()
    }

    fn ingest(&self) -> IngestNumbers {
        let counters = &self.intake.counters;
        let read =
            |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        let rejected = Code::ALL
            .iter()
            .map(|&code| (code.name().to_owned(), read(counters.rejected(code))));
        IngestNumbers {
            connections: read(&counters.connections_open),
            connections_total: read(&counters.connections),
            accepted: read(&counters.accepted),
            duplicates: read(&counters.duplicate),
            rejected: rejected.filter(|(_, count)| *count > 0).collect(),
            bytes: read(&counters.bytes),
            spooled: read(&counters.spooled),
            spool_waiting: read(&counters.spool_waiting),
            spool_rejected: read(&counters.spool_rejected),
        }
    }
}
