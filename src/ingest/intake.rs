//! What all sessions share: who is owed what, where events go, whether any are taken now, and the counters.
//! It refuses to know sockets and lines.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};

use super::frame::{Code, Refused};
use super::lines::Limits;
use crate::domain::endpoint::Endpoint;
use crate::domain::route::{addressees, is_owed};
use crate::domain::time::Timestamp;
use crate::store::committer::{Clock, Queue};
use crate::store::{LaneId, StoreError};

/// Names of endpoints in a message.
const NAMES_SHOWN_MAX: usize = 5;
/// Connections that may hold a line of more than 256 KiB at once; others with such a line wait for their
/// turn, so that memory does not grow with connections times the longest line.
const LONG_LINES_MAX: usize = 8;
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

    /// The lanes that are owed an event of type `kind` and `tenant`, addressed to some endpoints or to none.
    ///
    /// # Errors
    /// A message when one of those `addressed` is not there, with names that there are.
    pub fn owed(
        &self,
        kind: &str,
        tenant: Option<&str>,
        addressed: Option<&str>,
    ) -> Result<Arc<[LaneId]>, String> {
        if let Some(name) = addressed.and_then(|names| addressees(names).find(|name| !self.knows(name))) {
            return Err(self.unknown(name));
        }
        let owed = self
            .endpoints
            .iter()
            .filter(|(endpoint, _)| is_owed(endpoint, kind, tenant, addressed));
        Ok(owed.map(|(_, lane)| *lane).collect())
    }

    fn knows(&self, name: &str) -> bool {
        self.endpoints.iter().any(|(endpoint, _)| *endpoint.name == *name)
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
    /// Lines taken from the spool.
    pub spooled: AtomicU64,
    /// Files that wait in the spool now.
    pub spool_waiting: AtomicU64,
    /// Files there now that hold refused lines.
    pub spool_rejected: AtomicU64,
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
    /// Room for long lines; one permit each.
    pub(super) long_lines: Semaphore,
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
            long_lines: Semaphore::new(LONG_LINES_MAX),
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::endpoint::fixture;
    use crate::domain::route::TypePattern;

    /// An endpoint that subscribes to `events`.
    pub(in crate::ingest) fn endpoint(name: &str, events: &str, tenant: &str) -> Arc<Endpoint> {
        let mut endpoint = fixture::endpoint(name, "https://example.com/");
        endpoint.tenant = tenant.into();
        endpoint.events = vec![TypePattern::parse(events).unwrap()];
        Arc::new(endpoint)
    }

    fn table(names: &[(&str, &str, &str)]) -> Arc<RouteTable> {
        let lanes = (1..).map(LaneId);
        let endpoints = names
            .iter()
            .map(|(name, events, tenant)| endpoint(name, events, tenant));
        Arc::new(RouteTable::new(endpoints.zip(lanes).collect()))
    }

    /// B1, B7: lanes by type and tenant; what is remembered is what the table says.
    #[test]
    fn b1_lanes_are_owed_by_type_and_tenant() {
        let table = table(&[
            ("all", "**", ""),
            ("crm", "contact.*", ""),
            ("acme", "**", "acme"),
        ]);
        let mut remembered = Remembered::default();
        for (kind, tenant, expected) in [
            ("contact.created", None, vec![1, 2]),
            ("order.paid", None, vec![1]),
            ("order.paid", Some("acme"), vec![1, 3]),
            ("order.paid", Some("other"), vec![1]),
        ] {
            for _ in 0..2 {
                let lanes = remembered.owed(&table, kind, tenant, None).unwrap();
                assert_eq!(
                    lanes.iter().map(|lane| lane.0).collect::<Vec<_>>(),
                    expected,
                    "{kind} {tenant:?}"
                );
            }
        }
    }

    /// A6: an event addressed to one endpoint is owed to it alone; a name nobody has is refused.
    #[test]
    fn a6_addressed_events() {
        let one = table(&[("all", "**", ""), ("crm", "contact.*", "")]);
        assert_eq!(*one.owed("x", None, Some("crm")).unwrap(), [LaneId(2)]);
        let both = one.owed("x", None, Some("crm,all")).unwrap();
        assert_eq!(*both, [LaneId(1), LaneId(2)]);
        let error = one.owed("x", None, Some("all,crn")).unwrap_err();
        assert!(error.contains("no endpoint is called \"crn\""), "{error}");
        let many: Vec<String> = (0..7).map(|n| format!("e{n}")).collect();
        let many: Vec<_> = many.iter().map(|name| (&**name, "**", "")).collect();
        for (table, message) in [
            (one, r#"no endpoint is called "crn"; there is all, crm"#),
            (table(&many), "there is e0, e1, e2, e3, e4 and 2 more"),
            (table(&[]), "there is none yet"),
        ] {
            let error = table.owed("x", None, Some("crn")).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_new_table_is_seen_at_once_and_memory_is_bounded() {
        let mut remembered = Remembered::default();
        let (before, after) = (table(&[("all", "**", "")]), table(&[]));
        for n in 0..3 * REMEMBERED_MAX {
            remembered.owed(&before, &format!("t{n}"), None, None).unwrap();
            assert!(remembered.lanes.len() <= REMEMBERED_MAX);
        }
        assert_eq!(remembered.owed(&before, "t0", None, None).unwrap().len(), 1);
        assert_eq!(remembered.owed(&after, "t0", None, None).unwrap().len(), 0);
    }
}
