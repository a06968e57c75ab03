//! The traces of a running daemon: made by [`crate::trace`], sent by [`exporter`] if the program was built to.

#[cfg(feature = "otel")]
mod exporter;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::control::operator::TraceNumbers;
use crate::trace::tracer::Tracer;

/// What shows of the exporter, and ends it; all copies belong to the same.
#[derive(Clone, Debug)]
pub struct Traces {
    /// Makes the spans.
    pub tracer: Arc<Tracer>,
    /// Why the latest export failed.
    failing: Arc<Mutex<Option<String>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Traces {
    /// Starts what `config` asks for; `None`: it asks for no traces.
    ///
    /// # Errors
    /// One sentence if spans can't be sent from this machine.
    #[cfg(feature = "otel")]
    pub fn start(config: &Config) -> Result<Option<Self>, String> {
        let Some(endpoint) = &config.traces.endpoint else {
            return Ok(None);
        };
        let (tracer, spans) = Tracer::new(config.traces.sample, Arc::new(super::clock::Clock::wall_ns));
        let traces = Self {
            tracer: Arc::new(tracer),
            failing: Arc::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let exporter = exporter::Exporter::new(traces.clone(), endpoint, config)?;
        traces.tasks.spawn(exporter.run(spans));
        traces.tasks.close();
        Ok(Some(traces))
    }

    /// Without the feature no configuration that stands asks for traces.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "otel"))]
    pub fn start(_: &Config) -> Result<Option<Self>, String> {
        Ok(None)
    }

    /// What has become of the spans.
    #[must_use]
    pub fn numbers(&self) -> TraceNumbers {
        let counts = self.tracer.counts();
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        TraceNumbers {
            exported: counts.exported.load(Ordering::Relaxed),
            dropped: counts.dropped.load(Ordering::Relaxed),
            failing: failing.clone(),
        }
    }

    /// Sends what is in the queue, once, and ends. Wait no longer than spans are worth.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}
