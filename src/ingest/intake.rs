//! What all sessions share: who is owed what, where events go, whether any are taken now, and the counters.
//! It refuses to know sockets and lines.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::frame::{Code, Refused};
use super::lines::Limits;
use crate::domain::endpoint::Endpoint;
use crate::domain::route::is_owed;
use crate::domain::time::Timestamp;
use crate::store::committer::{Clock, Queue};
use crate::store::{LaneId, StoreError};

/// Names of endpoints in a message.
const NAMES_SHOWN_MAX: usize = 5;
/// Kinds of events a session remembers the lanes of; past it, it forgets them all and begins again.
const REMEMBERED_MAX: usize = 1024;

/// The endpoints in force, each with its lane.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    endpoints: Vec<(Arc<Endpoint>, LaneId)>,
}

impl RouteTable {
    /// A table of `endpoints`; names and lanes are unique.
    #[must_use]
    pub fn new(endpoints: Vec<(Arc<Endpoint>, LaneId)>) -> Self {
        Self { endpoints }
    }

    /// The lanes that are owed an event of type `kind` and `tenant`, addressed to one endpoint or to none.
    ///
    /// # Errors
    /// A message when no endpoint is called `addressed`, with names that there are.
    pub fn owed(
        &self,
        kind: &str,
        tenant: Option<&str>,
        addressed: Option<&str>,
    ) -> Result<Arc<[LaneId]>, String> {
        let lanes: Arc<[LaneId]> = self
            .endpoints
            .iter()
            .filter(|(endpoint, _)| is_owed(endpoint, kind, tenant, addressed))
            .map(|(_, lane)| *lane)
            .collect();
        match addressed {
            Some(name) if lanes.is_empty() => Err(self.unknown(name)),
            _ => Ok(lanes),
        }
    }

    fn unknown(&self, name: &str) -> String {
        let names: Vec<&str> = self
            .endpoints
            .iter()
            .take(NAMES_SHOWN_MAX)
            .map(|(endpoint, _)| &*endpoint.name)
            .collect();
        let known = match (names.len(), self.endpoints.len() - names.len()) {
            (0, _) => "there is none yet".to_owned(),
            (_, 0) => format!("there is {}", names.join(", ")),
            (_, more) => format!("there is {} and {more} more", names.join(", ")),
        };
        format!("no endpoint is called {name:?}; {known}")
    }
}

/// A session's memory of who is owed what, so that the usual event costs one look into a map.
#[derive(Debug, Default)]
pub struct Remembered {
    table: Arc<RouteTable>,
    lanes: HashMap<String, Arc<[LaneId]>>,
    key: String,
}

impl Remembered {
    /// [`RouteTable::owed`] by `table`; what another table said is forgotten.
    ///
    /// # Errors
    /// As [`RouteTable::owed`].
    pub fn owed(
        &mut self,
        table: &Arc<RouteTable>,
        kind: &str,
        tenant: Option<&str>,
        addressed: Option<&str>,
    ) -> Result<Arc<[LaneId]>, String> {
        if !Arc::ptr_eq(&self.table, table) {
            self.table = Arc::clone(table);
            self.lanes.clear();
        }
        if addressed.is_some() {
            return table.owed(kind, tenant, addressed);
        }
        // No type and no tenant holds a control character, so the line feed keeps them apart.
        self.key.clear();
        self.key.push_str(kind);
        if let Some(tenant) = tenant {
            self.key.push('\n');
            self.key.push_str(tenant);
        }
        if let Some(lanes) = self.lanes.get(&self.key) {
            return Ok(Arc::clone(lanes));
        }
        let lanes = table.owed(kind, tenant, None)?;
        if self.lanes.len() >= REMEMBERED_MAX {
            self.lanes.clear();
        }
        self.lanes.insert(self.key.clone(), Arc::clone(&lanes));
        Ok(lanes)
    }
}

/// What the sessions have seen since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events accepted.
    pub accepted: AtomicU64,
    /// Events that had been accepted before.
    pub duplicate: AtomicU64,
    /// Lines refused, by [`Code::ALL`].
    pub rejected: [AtomicU64; Code::ALL.len()],
    /// Bytes read from producers.
    pub bytes: AtomicU64,
    /// Connections taken.
    pub connections: AtomicU64,
    /// Connections open now.
    pub connections_open: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        // Nothing is ordered by a count.
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn take(counter: &AtomicU64) {
        counter.fetch_sub(1, Ordering::Relaxed);
    }

    /// Lines refused with `code`.
    #[must_use]
    pub fn rejected(&self, code: Code) -> &AtomicU64 {
        &self.rejected[code as usize]
    }
}

/// What a session needs.
pub struct Intake {
    /// Where events become durable.
    pub queue: Queue,
    /// Who is owed what; swapped as a whole by a reload.
    pub routes: ArcSwap<RouteTable>,
    /// Bounds on lines.
    pub limits: Limits,
    /// What has been seen.
    pub counters: Counters,
    clock: Clock,
    failure: watch::Receiver<Option<StoreError>>,
    draining: AtomicBool,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake")
            .field("limits", &self.limits)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Intake {
    /// An intake that is open.
    #[must_use]
    pub fn new(queue: Queue, routes: RouteTable, limits: Limits, clock: Clock) -> Self {
        Self {
            failure: queue.failure(),
            queue,
            routes: ArcSwap::from_pointee(routes),
            limits,
            counters: Counters::default(),
            clock,
            draining: AtomicBool::new(false),
        }
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Takes no events any more: each is refused with `shutting_down`.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Why no events are taken now; `None`: they are.
    #[must_use]
    pub fn closed(&self) -> Option<Refused> {
        if self.failure.borrow().is_some() {
            return Some(Refused::new(
                Code::Unhealthy,
                "the store has failed and the daemon is about to stop; send it again after the restart",
            ));
        }
        self.draining.load(Ordering::Acquire).then(|| {
            Refused::new(
                Code::ShuttingDown,
                "the daemon is stopping; send it again after the restart",
            )
        })
    }
}
