//! Everything a store shows, in a form that two stores can be compared by, and the rule that its numbers
//! must be those of what it lists.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::rig::ask_all;
use crate::domain::age::Ages;
use crate::domain::event::{EventHead, Seq};
use crate::domain::time::Timestamp;
use crate::store::{
    AttemptFilter, DeadEvidence, DeadFilter, DeadLetter, Deferral, DeliveryId, DeliveryState, Due, DueQuery,
    FoundEvent, LaneId, LaneTotals, LoadError, LoggedAttempt, Pause, Store,
};

/// Longer than any commit of a check lasts.
const COMMIT_MS_MAX: u64 = 10_000;

/// Everything a store shows. Places are named by a function, so that stores which number differently can
/// be compared; lanes are named by their endpoint.
#[derive(Debug, PartialEq)]
pub(super) struct Snapshot {
    pub(super) lanes: BTreeMap<Box<str>, LaneShot>,
    pub(super) events: BTreeMap<u64, EventShot>,
    /// The log of attempts, newest first; events by their names.
    pub(super) attempts: Vec<LoggedAttempt>,
}

/// One lane of a [`Snapshot`].
#[derive(Debug, PartialEq)]
pub(super) struct LaneShot {
    pub(super) fresh: Vec<u64>,
    pub(super) deferred: Vec<DeferredShot>,
    pub(super) dead: Vec<(u64, DeadEvidence)>,
    pub(super) paused: Option<Pause>,
}

/// A deferred delivery: event, due time, tries, and what is known of the tries if there were any.
pub(super) type DeferredShot = (u64, Timestamp, u32, Option<Deferral>);

/// An event: its head, and length and checksum in place of its body.
pub(super) type EventShot = Result<(EventHead, usize, u32), String>;

impl Snapshot {
    /// What `store` shows, places named by their numbers.
    pub(super) fn of(store: &dyn Store) -> Self {
        Self::named(store, &|seq| seq.0)
    }

    /// What `store` shows, places named by `name`.
    pub(super) fn named(store: &dyn Store, name: &dyn Fn(Seq) -> u64) -> Self {
        let mut lanes = BTreeMap::new();
        let mut seqs = BTreeSet::new();
        for totals in store.lanes() {
            let fresh = all_fresh(store, totals.lane);
            let deferred = all_deferred(store, totals.lane);
            let dead = all_dead(store, totals.lane, 7);
            let pending: Vec<Seq> = fresh
                .iter()
                .copied()
                .chain(deferred.iter().map(|due| due.seq))
                .collect();
            check_totals(store, &totals, &pending, &deferred, dead.len());
            seqs.extend(pending);
            seqs.extend(dead.iter().map(|letter| letter.id.seq));
            let shot = LaneShot {
                fresh: fresh.into_iter().map(name).collect(),
                deferred: deferred
                    .iter()
                    .map(|due| deferred_shot(store, totals.lane, due, name))
                    .collect(),
                dead: dead
                    .into_iter()
                    .map(|letter| (name(letter.id.seq), letter.evidence))
                    .collect(),
                paused: totals.paused,
            };
            let known = lanes.insert(totals.name, shot);
            assert!(known.is_none(), "two lanes have the same name");
        }
        assert_eq!(
            store.stats().events,
            seqs.len() as u64,
            "events kept are those with deliveries left"
        );
        let seqs: Vec<Seq> = seqs.into_iter().collect();
        check_walk(store, &seqs);
        let loaded = store.load(&seqs);
        assert_eq!(loaded.len(), seqs.len(), "one answer for each event asked for");
        let events = seqs
            .into_iter()
            .map(name)
            .zip(loaded.into_iter().map(event_shot))
            .collect();
        let mut attempts = all_attempts(store, &AttemptFilter::default(), 5);
        for logged in &mut attempts {
            logged.entry.seq = Seq(name(logged.entry.seq));
        }
        Self {
            lanes,
            events,
            attempts,
        }
    }
}

fn event_shot(loaded: Result<crate::domain::event::Event, LoadError>) -> EventShot {
    match loaded {
        Ok(event) => Ok((event.head, event.json.len(), crc32fast::hash(&event.json))),
        Err(error) => Err(error.to_string()),
    }
}

fn deferred_shot(store: &dyn Store, lane: LaneId, due: &Due, name: &dyn Fn(Seq) -> u64) -> DeferredShot {
    let was_due = due.was_due.unwrap();
    let known = store
        .deferral(DeliveryId { lane, seq: due.seq }, was_due)
        .unwrap();
    if let Some(known) = &known {
        assert_eq!(
            (known.due, known.tries),
            (was_due, due.tries),
            "due and deferral tell the same"
        );
    }
    (name(due.seq), was_due, due.tries, known)
}

/// A walk shows what the lists show, in order, and the ages are those of what it shows.
fn check_walk(store: &dyn Store, seqs: &[Seq]) {
    let mut walked = Vec::new();
    let mut deliveries = 0;
    let mut ages = BTreeMap::new();
    let now = Timestamp(1 << 50);
    let mut each = |shown: Result<FoundEvent, LoadError>| {
        match shown {
            Ok(found) => {
                // Finding reads the whole queue.
                if walked.len() < 3 {
                    let found_again = store.find(&found.event.head.id, 1000).unwrap();
                    assert!(found_again.contains(&found), "find and walk show the same");
                }
                walked.push(found.seq);
                deliveries += found.deliveries.len();
                for (lane, state) in &found.deliveries {
                    if !matches!(state, DeliveryState::Dead(_)) {
                        let of_lane: &mut Ages = ages.entry(*lane).or_default();
                        of_lane.add(now.since(found.event.head.accepted), 1);
                    }
                }
            }
            Err(LoadError::Damaged(seq, _)) => walked.push(seq),
            Err(error) => panic!("{error}"),
        }
        ControlFlow::Continue(())
    };
    store.walk(&mut each).unwrap();
    assert_eq!(walked, seqs, "a walk shows every event, in order");
    let damaged = store.load(seqs).iter().any(Result::is_err);
    if !damaged {
        let owed: u64 = store.lanes().iter().map(|lane| lane.pending + lane.dead).sum();
        assert_eq!(deliveries as u64, owed, "a walk shows every delivery");
        let told = store
            .ages(now)
            .into_iter()
            .filter(|(_, ages)| *ages != Ages::default());
        assert_eq!(told.collect::<BTreeMap<_, _>>(), ages);
    }
}

/// Walks the log of attempts, a page at a time, to the end.
pub(super) fn all_attempts(store: &dyn Store, filter: &AttemptFilter, limit: usize) -> Vec<LoggedAttempt> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = store.attempts(filter, before, limit);
        assert!(page.attempts.len() <= limit);
        found.extend(page.attempts);
        before = page.next;
        if before.is_none() {
            assert!(
                found.is_sorted_by(|a, b| a.number > b.number),
                "newest first, each once"
            );
            return found;
        }
    }
}

/// Walks the lane's fresh deliveries, a page at a time, to the end.
pub(super) fn all_fresh(store: &dyn Store, lane: LaneId) -> Vec<Seq> {
    let mut found = Vec::new();
    let mut query = DueQuery {
        fresh_max: 1000,
        deferred_max: 0,
        ..ask_all()
    };
    loop {
        let answer = store.due(lane, &query).unwrap();
        assert!(answer.fresh.len() <= query.fresh_max);
        assert!(
            answer
                .fresh
                .iter()
                .all(|due| due.was_due.is_none() && due.tries == 0)
        );
        assert!(
            answer
                .fresh
                .iter()
                .all(|due| due.seq >= query.fresh_from && due.seq < answer.fresh_next)
        );
        found.extend(answer.fresh.iter().map(|due| due.seq));
        if !answer.fresh_more {
            break;
        }
        assert!(answer.fresh_next > query.fresh_from, "asking on must lead on");
        query.fresh_from = answer.fresh_next;
    }
    assert!(
        found.is_sorted_by(|a, b| a < b),
        "fresh deliveries come in order of acceptance, none twice"
    );
    found
}

fn all_deferred(store: &dyn Store, lane: LaneId) -> Vec<Due> {
    let query = DueQuery {
        fresh_max: 0,
        now: Timestamp::MAX,
        ..ask_all()
    };
    let answer = store.due(lane, &query).unwrap();
    assert!(answer.fresh.is_empty() && answer.deferred_next.is_none());
    assert!(
        answer.deferred.is_sorted_by_key(|due| due.was_due),
        "deferred deliveries come in order of due time"
    );
    answer.deferred
}

/// Walks the lane's dead letters, `limit` at a time, to the end.
pub(super) fn all_dead(store: &dyn Store, lane: LaneId, limit: usize) -> Vec<DeadLetter> {
    let filter = DeadFilter {
        lane: Some(lane),
        ..DeadFilter::default()
    };
    let mut letters: Vec<DeadLetter> = Vec::new();
    let mut after = None;
    loop {
        let page = store.dead(&filter, after, limit).unwrap();
        assert!(page.letters.len() <= limit && page.letters.iter().all(|letter| letter.id.lane == lane));
        letters.extend(page.letters);
        let Some(next) = page.next else { break };
        assert!(after.is_none_or(|after| next > after), "a cursor must lead on");
        after = Some(next);
    }
    assert!(
        letters.is_sorted_by(|a, b| a.id < b.id),
        "dead letters come in order, none twice"
    );
    letters
}

/// The numbers of a lane are those of what it lists; `oldest_pending` may be off by the length of a commit.
fn check_totals(store: &dyn Store, totals: &LaneTotals, pending: &[Seq], deferred: &[Due], dead: usize) {
    let lane = &totals.name;
    assert_eq!(totals.pending, pending.len() as u64, "pending of {lane}");
    assert_eq!(totals.deferred, deferred.len() as u64, "deferred of {lane}");
    assert_eq!(totals.dead, dead as u64, "dead of {lane}");
    assert_eq!(
        totals.deferred_next,
        deferred.first().and_then(|due| due.was_due),
        "deferred_next of {lane}"
    );
    let accepted = store
        .load(pending)
        .into_iter()
        .filter_map(|loaded| Some(loaded.ok()?.head.accepted));
    let oldest = accepted.min();
    let about_right = match (totals.oldest_pending, oldest) {
        (Some(said), Some(oldest)) => said.0.abs_diff(oldest.0) < COMMIT_MS_MAX,
        (said, oldest) => said == oldest,
    };
    assert!(
        about_right,
        "oldest_pending of {lane} is {:?}, not {oldest:?}",
        totals.oldest_pending
    );
}
