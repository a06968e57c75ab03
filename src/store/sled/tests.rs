//! The store over a real folder: what is accepted comes back, whatever happens to the process.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::config::FreeMin;
use crate::domain::delivery::DeadReason;
use crate::domain::event::EventHead;
use crate::store::{
    AcceptGroup, Accepted, DeadEvidence, DeliveryState, Due, NewEvent, Settle, SettleTo,
};

pub(super) fn config(path: &Path) -> StoreConfig {
    StoreConfig {
        path: path.to_owned(),
        size_bytes_max: 1 << 30,
        free_min: FreeMin::Bytes(0),
        dedup_window: Duration::from_secs(3600),
        dedup_ids_max: 10_000,
        dead_keep: Duration::from_secs(3600),
    }
}

pub(super) fn open(path: &Path) -> SledStore {
    SledStore::open(&config(path), OpenOptions::default()).unwrap()
}

/// Shortly before now, so that ids are inside the window after a restart.
pub(super) fn start() -> Timestamp {
    Timestamp(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64)
}

pub(super) fn event(id: &str, bytes: usize) -> Event {
    let head = EventHead {
        id: id.into(),
        source: "/test".into(),
        kind: "contact.created".into(),
        accepted: Timestamp(1),
        deliver_at: None,
        expires: None,
        partition_key: None,
        tenant: None,
        traceparent: None,
        sender_uid: Some(33),
    };
    let json = format!("{{\"id\":{id:?},\"pad\":\"{}\"}}", "x".repeat(bytes));
    Event { head, json: Bytes::from(json) }
}

pub(super) fn group(ids: &[&str], bytes: usize, lanes: &[LaneId]) -> AcceptGroup {
    let events = ids.iter().map(|id| NewEvent { event: event(id, bytes), lanes: lanes.into() });
    AcceptGroup { events: events.collect() }
}

pub(super) fn accept(store: &SledStore, groups: Vec<AcceptGroup>) -> Vec<Seq> {
    let batch = Batch { accepts: groups, settles: Vec::new() };
    let committed = store.commit(batch, start()).unwrap();
    let new = committed.accepts.into_iter().flat_map(Result::unwrap).filter_map(|answer| match answer {
        Accepted::New(seq) => Some(seq),
        Accepted::Duplicate => None,
    });
    new.collect()
}

pub(super) fn settle(store: &SledStore, id: DeliveryId, was_due: Option<Timestamp>, to: SettleTo) {
    let settles = vec![Settle { id, was_due, to }];
    store.commit(Batch { accepts: Vec::new(), settles }, start()).unwrap();
}

pub(super) fn query(now: Timestamp) -> DueQuery {
    DueQuery { fresh_from: Seq(0), fresh_max: 100_000, now, deferred_max: 100_000, held: HashSet::new() }
}

pub(super) fn fresh(store: &SledStore, lane: LaneId) -> Vec<Seq> {
    store.due(lane, &query(start())).unwrap().fresh.iter().map(|due| due.seq).collect()
}

pub(super) fn later(due: Timestamp, tries: u32) -> Deferral {
    Deferral {
        due,
        tries,
        first_attempt: Timestamp(5),
        last_attempt: Timestamp(6),
        last_status: Some(503),
        last_class: None,
        last_message: "no".into(),
    }
}

pub(super) fn evidence(id: &str) -> Box<DeadEvidence> {
    Box::new(DeadEvidence {
        reason: DeadReason::Rejected,
        since: start(),
        tries: 1,
        first_attempt: None,
        last: None,
        event_id: id.into(),
        event_source: "/test".into(),
        event_kind: "contact.created".into(),
        accepted: Timestamp(1),
    })
}

/// Small, large and very large events, alone and in arrays, come back as they were, from memory and from
/// disk; A4.
#[test]
fn a4_groups_of_every_size_come_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("crm").unwrap();
    let many: Vec<String> = (0..3000).map(|n| format!("many-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let groups = vec![
        group(&["a"], 10, &[lane]),
        group(&["b", "c"], 60_000, &[lane]),
        group(&["huge"], 1_000_000, &[lane]),
        group(&many, 100, &[lane]),
        group(&["d"], 10, &[lane]),
    ];
    let seqs = accept(&store, groups.clone());
    assert_eq!(seqs.len(), 3005);
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]));
    let wanted: Vec<Event> = groups.into_iter().flat_map(|g| g.events).map(|new| new.event).collect();
    assert_eq!(store.load_cached(seqs[0]).as_ref(), Some(&wanted[0]));
    for restart in [false, true] {
        let store = if restart { None } else { Some(&store) };
        let reopened;
        let store = match store {
            Some(store) => store,
            None => {
                reopened = reopen_copy(folder.path());
                &reopened.0
            }
        };
        let loaded: Vec<Event> = store.load(&seqs).into_iter().map(Result::unwrap).collect();
        assert!(loaded == wanted, "restarted: {restart}");
        assert_eq!(fresh(store, lane), seqs);
        assert_eq!(store.stats().events, 3005);
        assert_eq!(store.stats().blob_files, 0);
    }
}

/// What a killed process would have left: a copy of the files as they are now.
pub(super) fn reopen_copy(from: &Path) -> (SledStore, tempfile::TempDir) {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(from, copy.path());
    (open(copy.path()), copy)
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else if entry.file_name() != "ballast" {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A5: a duplicate is known inside the window, in one line, across a restart, and after its event is gone.
#[test]
fn a5_duplicates_are_known_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("crm").unwrap();
    let seqs = accept(&store, vec![group(&["a", "b", "a"], 10, &[lane]), group(&["b", "c"], 10, &[lane])]);
    assert_eq!(seqs.len(), 3);
    for seq in seqs {
        settle(&store, DeliveryId { lane, seq }, None, SettleTo::Settled);
    }
    let later = accept(&store, vec![group(&["d"], 10, &[lane])]);
    assert_eq!(store.stats().events, 1);
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.stats().dedup_ids, 4);
    let again = accept(&store, vec![group(&["a", "b", "c", "d", "e"], 10, &[lane])]);
    assert_eq!(again.len(), 1);
    assert!(again[0] > later[0], "numbers are never used twice");
}

/// The life of a delivery: tried, deferred, flushed, dead, revived, settled; each state survives a restart.
#[test]
fn deliveries_keep_their_state_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let (a, b) = (store.lane("a").unwrap(), store.lane("b").unwrap());
    let seq = accept(&store, vec![group(&["x", "y"], 10, &[a, b])])[0];
    let id = DeliveryId { lane: a, seq };
    let restart = |store: SledStore| {
        drop(store);
        open(folder.path())
    };
    let due = start().plus(Duration::from_secs(60));
    settle(&store, id, None, SettleTo::Later(later(due, 1)));
    store = restart(store);
    let answer = store.due(a, &query(start())).unwrap();
    assert_eq!((answer.fresh.len(), answer.deferred.len(), answer.deferred_next), (1, 0, Some(due)));
    assert_eq!(store.deferral(id, due).unwrap(), Some(later(due, 1)));

    let now = start();
    assert_eq!(store.flush_lane(a, now).unwrap(), 1);
    store = restart(store);
    let answer = store.due(a, &query(now)).unwrap();
    assert_eq!(answer.deferred, [Due { seq, was_due: Some(now), tries: 1 }]);

    // The caller still believes in the due time from before the flush.
    settle(&store, id, Some(due), SettleTo::Dead(evidence("x")));
    store = restart(store);
    assert_eq!(store.dead(&DeadFilter::default(), None, 10).unwrap().letters.len(), 1);
    let totals = &store.lanes()[0];
    assert_eq!((totals.pending, totals.deferred, totals.dead), (1, 0, 1));

    assert_eq!(store.revive(&[(id, now)]).unwrap(), [id]);
    store = restart(store);
    let answer = store.due(a, &query(now)).unwrap();
    assert_eq!(answer.deferred, [Due { seq, was_due: Some(now), tries: 0 }]);
    let found = store.find("x", 5).unwrap();
    assert_eq!(found[0].deliveries, [(a, DeliveryState::Fresh), (b, DeliveryState::Fresh)]);

    assert_eq!(store.reassign(a, b, 10, now).unwrap(), 2);
    store = restart(store);
    assert_eq!((fresh(&store, a).len(), fresh(&store, b).len()), (0, 2));
    for seq in fresh(&store, b) {
        settle(&store, DeliveryId { lane: b, seq }, None, SettleTo::Settled);
    }
    store = restart(store);
    assert_eq!(store.stats().events, 0);
    assert_eq!(store.load(&[seq]), [Err(LoadError::Missing(seq))]);
}

/// I3: a second daemon on the same folder is refused with the first one's pid.
#[test]
fn i3_a_second_open_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path());
    let second = SledStore::open(&config(folder.path()), OpenOptions::default()).unwrap_err();
    assert!(second.to_string().contains(&format!("pid {}", std::process::id())), "{second}");
}
