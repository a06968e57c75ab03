//! What all sessions share: who is owed what, where events go, whether any are taken now, and the counters.
//! It refuses to know sockets and lines.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::build::Moment;
use super::frame::{Code, Refused};
use super::lines::{Limits, ROOM_BUSY};
use super::sender::Sender;
use crate::domain::access::{Access, Denied};
use crate::domain::endpoint::Endpoint;
use crate::domain::filter::EventJson;
use crate::domain::route::{addressees, is_owed};
use crate::domain::time::Timestamp;
use crate::store::committer::{Clock, Queue};
use crate::store::{LaneId, StoreError};
use crate::trace::tracer::Tracer;

/// Names of endpoints in a message.
const NAMES_SHOWN_MAX: usize = 5;
/// Connections that may hold a line of more than 256 KiB at once; others with such a line wait for their
/// turn, so that memory does not grow with connections times the longest line.
const LONG_LINES_MAX: usize = 8;
/// Kinds of events whose lanes are remembered; past it, all are forgotten and it begins again.
const REMEMBERED_MAX: usize = 1024;

/// Who is owed the events of one kind.
#[derive(Clone, Debug)]
pub struct Owed {
    lanes: Arc<[LaneId]>,
    /// The same lanes, some of which filter; `None`: none of them does, so the event need not be parsed.
    candidates: Option<Arc<[Candidate]>>,
}

#[derive(Clone, Debug)]
struct Candidate {
    lane: LaneId,
    /// The endpoint if it filters.
    filtering: Option<Arc<Endpoint>>,
}

impl Candidate {
    fn passes(&self, event: &EventJson<'_>) -> bool {
        let filtering = self.filtering.as_ref();
        filtering.is_none_or(|endpoint| endpoint.selection.lets_pass(event))
    }
}

impl Owed {
    fn new<'t>(owed: impl Iterator<Item = &'t (Arc<Endpoint>, LaneId)> + Clone) -> Self {
        let filters = |endpoint: &Endpoint| endpoint.selection.filter.is_some();
        let candidate = |(endpoint, lane): &(Arc<Endpoint>, LaneId)| Candidate {
            lane: *lane,
            filtering: filters(endpoint).then(|| Arc::clone(endpoint)),
        };
        let any = owed.clone().any(|(endpoint, _)| filters(endpoint));
        Self {
            lanes: owed.clone().map(|(_, lane)| *lane).collect(),
            candidates: any.then(|| owed.map(candidate).collect()),
        }
    }

    /// Those whose filter lets the event that `event_json` holds pass (B3).
    #[must_use]
    pub fn lanes(&self, event_json: &[u8]) -> Arc<[LaneId]> {
        let Some(candidates) = &self.candidates else {
            return Arc::clone(&self.lanes);
        };
        let event = EventJson::new(event_json);
        let passing = candidates.iter().filter(|candidate| candidate.passes(&event));
        passing.map(|candidate| candidate.lane).collect()
    }
}

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

    /// Who is owed an event of type `kind` and `tenant`, addressed to some endpoints or to none. An addressed event
    /// passes every filter: its sender has chosen.
    ///
    /// # Errors
    /// A message when one of those `addressed` is not there, with names that there are.
    pub fn owed(&self, kind: &str, tenant: Option<&str>, addressed: Option<&str>) -> Result<Owed, String> {
        if let Some(name) = addressed.and_then(|names| addressees(names).find(|name| !self.knows(name))) {
            return Err(self.unknown(name));
        }
        let owed = self
            .endpoints
            .iter()
            .filter(|(endpoint, _)| is_owed(endpoint, kind, tenant, addressed));
        let owed = Owed::new(owed);
        Ok(match addressed {
            Some(_) => Owed {
                candidates: None,
                ..owed
            },
            None => owed,
        })
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

/// What the sessions of one thread need with nearly every line, so that the usual event costs one look into a map.
#[derive(Debug, Default)]
pub struct Remembered {
    table: Arc<RouteTable>,
    lanes: HashMap<String, Owed>,
    key: String,
    moment: Option<Moment>,
}

impl Remembered {
    /// This instant, which is written down once a millisecond.
    pub fn moment(&mut self, now: Timestamp) -> Moment {
        let moment = self.moment.take().filter(|last| last.now() == now);
        let moment = moment.unwrap_or_else(|| Moment::new(now));
        self.moment.insert(moment).clone()
    }

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
    ) -> Result<Owed, String> {
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
        if let Some(owed) = self.lanes.get(&self.key) {
            return Ok(owed.clone());
        }
        let owed = table.owed(kind, tenant, None)?;
        if self.lanes.len() >= REMEMBERED_MAX {
            self.lanes.clear();
        }
        self.lanes.insert(self.key.clone(), owed.clone());
        Ok(owed)
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

    /// Counts bytes that were read from a producer.
    pub fn read(&self, bytes: usize) {
        Self::add(&self.bytes, bytes as u64);
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
    /// Whether [`Self::access`] has rules; asked first, so that without any nobody waits for the lock.
    is_guarded: AtomicBool,
    access: Mutex<Access>,
    clock: Clock,
    failure: watch::Receiver<Option<StoreError>>,
    draining: AtomicBool,
    /// `None`: nobody wants to see what is accepted.
    pub(super) tracer: Option<Arc<Tracer>>,
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
            is_guarded: AtomicBool::new(false),
            access: Mutex::default(),
            clock,
            draining: AtomicBool::new(false),
            tracer: None,
        }
    }

    /// The same, telling `tracer` of what is accepted.
    #[must_use]
    pub fn traced(self, tracer: Option<Arc<Tracer>>) -> Self {
        Self { tracer, ..self }
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Waits for room for a text of so many bytes, if it is a long one or nobody knows; `None`: it needs no room.
    pub async fn room_for(&self, bytes: Option<usize>) -> Option<SemaphorePermit<'_>> {
        if bytes.is_some_and(|bytes| bytes <= ROOM_BUSY) {
            return None;
        }
        self.long_lines.acquire().await.ok()
    }

    /// Puts other rules on who may send what in force. Rates begin anew.
    pub fn guard(&self, access: Access) {
        let is_guarded = !access.is_open();
        *self.access.lock().unwrap_or_else(PoisonError::into_inner) = access;
        self.is_guarded.store(is_guarded, Ordering::Release);
    }

    /// Asks the rules whether `sender` may send events of these types together, now.
    ///
    /// # Errors
    /// `forbidden` or `rate_limited`, with the place of the event it is about.
    pub(super) fn admit<'a>(
        &self,
        sender: &Sender,
        kinds: impl Iterator<Item = &'a str> + Clone,
        now: Timestamp,
    ) -> Result<(), (usize, Refused)> {
        if !self.is_guarded.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut access = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        access
            .admit(sender.peer, kinds.clone(), now)
            .map_err(|(index, denied)| {
                let kind = kinds.clone().nth(index).unwrap_or_default();
                (index, refusal(sender, kind, denied))
            })
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

fn refusal(sender: &Sender, kind: &str, denied: Denied) -> Refused {
    let who = match sender.peer.uid {
        Some(uid) => format!("uid {uid}"),
        None => "a sender without a uid".to_owned(),
    };
    match denied {
        Denied::Forbidden => Refused::new(
            Code::Forbidden,
            format!(
                "{who} may not send events of type {kind:?}: no [[ingest.allow]] of the configuration lets it"
            ),
        ),
        Denied::TooFast(wait) => Refused {
            retry_after_ms: Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            ..Refused::new(
                Code::RateLimited,
                format!("{who} sends events of type {kind:?} faster than its [[ingest.allow]] lets it"),
            )
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::endpoint::fixture;
    use crate::domain::filter::Filter;
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
                let lanes = remembered.owed(&table, kind, tenant, None).unwrap().lanes(b"{}");
                assert_eq!(
                    lanes.iter().map(|lane| lane.0).collect::<Vec<_>>(),
                    expected,
                    "{kind} {tenant:?}"
                );
            }
        }
    }

    /// B3: a filter takes its lane out for events that don't pass it, and for those alone; an addressed event passes.
    #[test]
    fn b3_filters_are_asked_for_each_event() {
        let filter = Filter::compile(&serde_json::json!({"data": {"score": {"$gte": 50}}})).unwrap();
        let mut picky = Endpoint::clone(&endpoint("picky", "**", ""));
        picky.selection.filter = filter;
        let lanes = vec![
            (endpoint("all", "**", ""), LaneId(1)),
            (Arc::new(picky), LaneId(2)),
        ];
        let table = Arc::new(RouteTable::new(lanes));
        let mut remembered = Remembered::default();
        for (json, expected) in [
            (r#"{"data":{"score":50}}"#, vec![1, 2]),
            (r#"{"data":{"score":49}}"#, vec![1]),
            (r#"{"data":{"score":51}}"#, vec![1, 2]),
        ] {
            let owed = remembered.owed(&table, "x", None, None).unwrap();
            let lanes = owed.lanes(json.as_bytes());
            assert_eq!(
                lanes.iter().map(|lane| lane.0).collect::<Vec<_>>(),
                expected,
                "{json}"
            );
        }
        let addressed = table.owed("x", None, Some("picky")).unwrap();
        assert_eq!(*addressed.lanes(b"{}"), [LaneId(2)]);
    }

    /// A6: an event addressed to one endpoint is owed to it alone; a name nobody has is refused.
    #[test]
    fn a6_addressed_events() {
        let one = table(&[("all", "**", ""), ("crm", "contact.*", "")]);
        assert_eq!(*one.owed("x", None, Some("crm")).unwrap().lanes(b""), [LaneId(2)]);
        let both = one.owed("x", None, Some("crm,all")).unwrap().lanes(b"");
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

    /// However often an instant is asked for, and whatever came before it, it is itself.
    #[test]
    fn a_moment_is_the_one_asked_for() {
        let mut remembered = Remembered::default();
        for now in [5, 5, 6, 5, 0].map(Timestamp) {
            assert_eq!(remembered.moment(now), Moment::new(now));
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
        assert_eq!(
            remembered
                .owed(&before, "t0", None, None)
                .unwrap()
                .lanes(b"")
                .len(),
            1
        );
        assert_eq!(
            remembered
                .owed(&after, "t0", None, None)
                .unwrap()
                .lanes(b"")
                .len(),
            0
        );
    }
}
