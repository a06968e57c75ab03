//! The running daemon as its operators and its own signals see it: what is in force, how it is, and how to
//! put another configuration in force.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, watch};

use crate::config::{self, Config};
use crate::control::operator::{BoxFuture, Health, IngestNumbers, LaneNumbers, Operator, ReloadReport};
use crate::domain::time::Timestamp;
use crate::ingest::frame::Code;
use crate::ingest::intake::{Intake, RouteTable};
use crate::ingest::lines::Limits;
use crate::observe::numbers::PHASES;
use crate::scheduler::{Input, LaneView};
use crate::store::committer::Queue;
use crate::store::{LaneId, StoreError};

use super::adopt::{self, Prepared, Workshop};
use super::clock::Clock;
use super::dispatcher::DispatcherHandle;
use super::notify;

/// What the parts of the running daemon share.
#[derive(Debug)]
pub struct Daemon {
    path: PathBuf,
    config: ArcSwap<Config>,
    /// Held while a configuration is being adopted, so that two reloads never mix.
    adopting: Mutex<()>,
    workshop: Workshop,
    queue: Queue,
    dispatcher: DispatcherHandle,
    intake: Arc<Intake>,
    clock: Clock,
}

impl Daemon {
    /// Puts `config`, read from `path`, in force.
    ///
    /// # Errors
    /// Every endpoint that can't be prepared.
    pub async fn start(
        path: PathBuf,
        config: Arc<Config>,
        queue: Queue,
        dispatcher: DispatcherHandle,
        clock: Clock,
    ) -> Result<Arc<Self>, Vec<String>> {
        let limits = Limits {
            event_bytes_max: config.ingest.event_bytes_max,
            batch_bytes_max: config.ingest.batch_bytes_max,
        };
        let routes = RouteTable::default();
        let intake = Intake::new(queue.clone(), routes, limits, Arc::new(Clock::wall));
        let daemon = Self {
            path,
            workshop: Workshop::new(queue.clone()),
            adopting: Mutex::new(()),
            queue,
            dispatcher,
            intake: Arc::new(intake),
            clock,
            config: ArcSwap::new(Arc::clone(&config)),
        };
        let prepared = daemon.workshop.prepare(&config).await?;
        daemon.put_in_force(config, prepared);
        Ok(Arc::new(daemon))
    }

    /// The door for producers.
    #[must_use]
    pub fn intake(&self) -> &Arc<Intake> {
        &self.intake
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
        let _one_at_a_time = self.adopting.lock().await;
        notify::reloading();
        let result = self.try_reload().await;
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

    async fn try_reload(&self) -> Result<ReloadReport, Vec<String>> {
        let path = self.path.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(&path))
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
        Ok(report)
    }

    /// The dispatcher first: it must know a lane before the first event is owed to it.
    fn put_in_force(&self, config: Arc<Config>, prepared: Prepared) {
        self.dispatcher.configure(prepared.destinations);
        self.intake.routes.store(Arc::new(prepared.routes));
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

    fn lanes(&self) -> BoxFuture<'_, Vec<LaneView>> {
        Box::pin(async { self.dispatcher.views().await.unwrap_or_default() })
    }

    fn tell(&self, input: Input) {
        self.dispatcher.tell(input);
    }

    fn numbers(&self, lane: LaneId) -> LaneNumbers {
        let Some(numbers) = self.workshop.numbers(lane) else {
            return LaneNumbers::default();
        };
        let reading = numbers.read(self.clock.now());
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
        }
    }

    fn reload(&self) -> BoxFuture<'_, Result<ReloadReport, Vec<String>>> {
        Box::pin(self.reload_config())
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
