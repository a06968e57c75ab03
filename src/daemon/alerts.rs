//! Alerts of the running daemon: looks at the endpoints while there is something to see, and tells of what has changed
//! in the log and as events like any other. Which endpoint needs a person is decided in `observe::alerts`.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::operator::Daemon;
use crate::control::operator::Operator;
use crate::control::types::AlertView;
use crate::domain::endpoint::Endpoint;
use crate::ingest::build::{self, Moment};
use crate::ingest::frame::{Line, judge};
use crate::ingest::sender::Sender;
use crate::observe::alerts::{Alert, Change, Seen};
use crate::store::{AcceptGroup, LaneId, LaneTotals, NewEvent, StoreError};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// What the types of the daemon's own events begin with. They go to endpoints that name them, not to those that ask
/// for everything: an application's receiver should not be the first to learn that it is slow.
const OWN: &str = "posthaste.";
const RAISED: &str = "posthaste.alert.raised";
const CLEARED: &str = "posthaste.alert.cleared";

/// Looks every few seconds while anything is owed or raised; else sleeps until an attempt ends. To be spawned, and
/// dropped at the end.
pub async fn watch(daemon: Arc<Daemon>) {
    loop {
        tokio::time::sleep(EVERY).await;
        match daemon.look().await {
            Ok(true) => {}
            Ok(false) => daemon.dispatcher().attempt_ended().await,
            // The store has failed, and the daemon with it.
            Err(_) => return,
        }
    }
}

impl Daemon {
    /// What is raised, for the status.
    pub(super) fn raised_alerts(&self) -> Vec<AlertView> {
        let alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        alerts.raised().map(view).collect()
    }

    /// Looks once. Whether there is more to see: something is owed, or an alert is raised.
    async fn look(&self) -> Result<bool, StoreError> {
        let lanes = self.queue().read(|store| store.lanes()).await?;
        let config = self.config();
        let seen: Vec<Seen> = config
            .endpoints
            .iter()
            .filter(|endpoint| !only_carries_alerts(endpoint))
            .filter_map(|endpoint| self.see(endpoint, &lanes))
            .collect();
        let (changes, is_raised) = {
            let mut alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
            let changes = alerts.judge(&config.alerts, &seen, self.now());
            (changes, alerts.raised().next().is_some())
        };
        for change in changes {
            self.tell_alert(&change, &config.endpoints, &lanes).await?;
        }
        Ok(is_raised || seen.iter().any(|endpoint| endpoint.pending > 0))
    }

    fn see(&self, endpoint: &Endpoint, lanes: &[LaneTotals]) -> Option<Seen> {
        let lane = lanes.iter().find(|lane| lane.name == endpoint.name)?;
        Some(Seen {
            endpoint: endpoint.name.clone(),
            reading: self.reading(lane.lane),
            pending: lane.pending,
            dead: lane.dead,
        })
    }

    /// A line in the log, and an event to the endpoints that ask for it.
    async fn tell_alert(
        &self,
        change: &Change,
        endpoints: &[Arc<Endpoint>],
        lanes: &[LaneTotals],
    ) -> Result<(), StoreError> {
        let (kind, alert) = match change {
            Change::Raised(alert) => (RAISED, alert),
            Change::Cleared(alert) => (CLEARED, alert),
        };
        let (endpoint, name) = (&*alert.endpoint, alert.kind.name());
        let (value, limit) = (alert.value, alert.limit);
        match change {
            Change::Raised(_) => tracing::warn!(endpoint, alert = name, value, limit, "alert raised"),
            Change::Cleared(_) => tracing::info!(endpoint, alert = name, value, limit, "alert cleared"),
        }
        let to: Arc<[LaneId]> = endpoints
            .iter()
            .filter(|endpoint| asks_for(endpoint, kind))
            .filter_map(|endpoint| lanes.iter().find(|lane| lane.name == endpoint.name))
            .map(|lane| lane.lane)
            .collect();
        if to.is_empty() {
            return Ok(());
        }
        let text = json!({
            "type": kind,
            "source": "/posthaste",
            "subject": endpoint,
            "data": view(alert),
        })
        .to_string();
        let Line::Event(parsed) = judge(text.as_bytes(), &self.intake().limits) else {
            tracing::warn!(
                endpoint,
                alert = name,
                "no event tells of this alert: ingest.max_event is too small"
            );
            return Ok(());
        };
        let sender = Sender::of_user(rustix::process::getuid().as_raw());
        let Ok(event) = build::event(&parsed, &sender, &Moment::new(self.now())) else {
            return Ok(());
        };
        let group = AcceptGroup {
            events: vec![NewEvent { event, lanes: to }],
        };
        let accepted = self.queue().accept(vec![group]).await?;
        if let Some(Err(refusal)) = accepted.first() {
            tracing::warn!(endpoint, alert = name, %refusal, "no event tells of this alert");
        }
        Ok(())
    }
}

fn view(alert: &Alert) -> AlertView {
    AlertView {
        endpoint: alert.endpoint.to_string(),
        alert: alert.kind.name().to_owned(),
        value: alert.value,
        limit: alert.limit,
        since: alert.since,
    }
}

/// Whether an endpoint names the daemon's own events of this type.
fn asks_for(endpoint: &Endpoint, kind: &str) -> bool {
    endpoint
        .events
        .iter()
        .any(|pattern| pattern.as_str().starts_with(OWN) && pattern.matches(kind))
}

/// Alerts about the delivery of alerts would beget each other without end.
fn only_carries_alerts(endpoint: &Endpoint) -> bool {
    endpoint
        .events
        .iter()
        .all(|pattern| pattern.as_str().starts_with(OWN))
}
