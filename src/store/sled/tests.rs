//! The store over a real folder: what is accepted comes back, whatever happens to the process.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::config::FreeMin;
use crate::domain::delivery::DeadReason;
use crate::domain::event::EventHead;
use crate::domain::outcome::{Attempt, EXCERPT_BYTES_MAX, Outcome};
use crate::store::files;
use crate::store::{AcceptGroup, Accepted, DeadEvidence, DeliveryState, Due, NewEvent, Settle, SettleTo};

pub(super) fn config(path: &Path) -> StoreConfig {
    StoreConfig {
        path: path.to_owned(),
        size_bytes_max: 1 << 30,
        free_min: FreeMin::Bytes(0),
        dedup_window: Duration::from_secs(3600),
        dedup_ids_max: 10_000,
        dead_keep: Duration::from_secs(3600),
        ..StoreConfig::default()
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
        sender_uid: Some(33),
        ..EventHead::new(id, "/test", "contact.created", Timestamp(1))
    };
    let json = format!("{{\"id\":{id:?},\"pad\":\"{}\"}}", "x".repeat(bytes));
    Event {
        head,
        json: Bytes::from(json),
    }
}

pub(super) fn group(ids: &[&str], bytes: usize, lanes: &[LaneId]) -> AcceptGroup {
    let events = ids.iter().map(|id| NewEvent {
        event: event(id, bytes),
        lanes: lanes.into(),
    });
    AcceptGroup {
        events: events.collect(),
    }
}

pub(super) fn accept(store: &SledStore, groups: Vec<AcceptGroup>) -> Vec<Seq> {
    let batch = Batch {
        accepts: groups,
        settles: Vec::new(),
    };
    let committed = store.commit(batch, start()).unwrap();
    let new = committed
        .accepts
        .into_iter()
        .flat_map(Result::unwrap)
        .filter_map(|answer| match answer {
            Accepted::New(seq) => Some(seq),
            Accepted::Duplicate => None,
        });
    new.collect()
}

pub(super) fn settle(store: &SledStore, id: DeliveryId, was_due: Option<Timestamp>, to: SettleTo) {
    let settles = vec![Settle { id, was_due, to }];
    store
        .commit(
            Batch {
                accepts: Vec::new(),
                settles,
            },
            start(),
        )
        .unwrap();
}

pub(super) fn query(now: Timestamp) -> DueQuery {
    DueQuery {
        fresh_from: Seq(0),
        fresh_max: 100_000,
        now,
        deferred_max: 100_000,
        held: rustc_hash::FxHashSet::default(),
        tried_max: 0,
    }
}

pub(super) fn fresh(store: &SledStore, lane: LaneId) -> Vec<Seq> {
    store
        .due(lane, &query(start()))
        .unwrap()
        .fresh
        .iter()
        .map(|due| due.seq)
        .collect()
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
    let wanted: Vec<Event> = groups
        .into_iter()
        .flat_map(|g| g.events)
        .map(|new| new.event)
        .collect();
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
    let seqs = accept(
        &store,
        vec![
            group(&["a", "b", "a"], 10, &[lane]),
            group(&["b", "c"], 10, &[lane]),
        ],
    );
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
    assert_eq!(
        (answer.fresh.len(), answer.deferred.len(), answer.deferred_next),
        (1, 0, Some(due))
    );
    assert_eq!(store.deferral(id, due).unwrap(), Some(later(due, 1)));

    let now = start();
    assert_eq!(store.flush_lane(a, now, None, 9).unwrap().moved, 1);
    store = restart(store);
    let answer = store.due(a, &query(now)).unwrap();
    assert_eq!(answer.deferred, [Due::deferred(seq, now, 1)]);

    // The caller still believes in the due time from before the flush.
    settle(&store, id, Some(due), SettleTo::Dead(evidence("x")));
    store = restart(store);
    assert_eq!(
        store
            .dead(&DeadFilter::default(), None, 10)
            .unwrap()
            .letters
            .len(),
        1
    );
    let totals = &store.lanes()[0];
    assert_eq!((totals.pending, totals.deferred, totals.dead), (1, 0, 1));

    assert_eq!(store.revive(&[(id, now)]).unwrap(), [id]);
    store = restart(store);
    let answer = store.due(a, &query(now)).unwrap();
    assert_eq!(answer.deferred, [Due::deferred(seq, now, 0)]);
    let found = store.find("x", 5).unwrap();
    assert_eq!(
        found[0].deliveries,
        [(a, DeliveryState::Fresh), (b, DeliveryState::Fresh)]
    );

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
    assert!(
        second
            .to_string()
            .contains(&format!("pid {}", std::process::id())),
        "{second}"
    );
}

/// The writes since the tape was put in.
fn taken_tape(store: &SledStore) -> Vec<plan::Write> {
    store.engine.load().tape.lock().unwrap().take().unwrap()
}

/// What a batch in the middle of which the process is killed starts from, and what it does.
struct Scene {
    folder: tempfile::TempDir,
    lanes: [LaneId; 2],
    seqs: Vec<Seq>,
    due: Timestamp,
}

/// Ten events for two lanes in two slots: 0 is deferred, 1 is dead, the rest fresh; the first lane is done
/// with 5 to 9.
fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lanes = [store.lane("a").unwrap(), store.lane("b").unwrap()];
    let due = start().plus(Duration::from_secs(60));
    let mut seqs = accept(&store, vec![group(&["0", "1", "2", "3", "4"], 10_000, &lanes)]);
    seqs.extend(accept(
        &store,
        vec![group(&["5", "6", "7", "8", "9"], 10, &lanes)],
    ));
    let id = |at: usize| DeliveryId {
        lane: lanes[0],
        seq: seqs[at],
    };
    settle(&store, id(0), None, SettleTo::Later(later(due, 1)));
    settle(&store, id(1), None, SettleTo::Dead(evidence("1")));
    (5..10).for_each(|at| settle(&store, id(at), None, SettleTo::Settled));
    Scene {
        folder,
        lanes,
        seqs,
        due,
    }
}

impl Scene {
    /// Everything at once: new events (one of them delayed, one group too large for a slot), a deferral
    /// moved, a delivery dead, a slot done with.
    fn batch(&self) -> Batch {
        let [a, b] = self.lanes;
        let mut delayed = group(&["delayed"], 10, &[a, b]);
        delayed.events[0].event.head.deliver_at = Some(start().plus(Duration::from_secs(60)));
        let large = group(&["large-1", "large-2", "large-3"], 50_000, &[b]);
        let settle = |lane, at: usize, was_due, to| Settle {
            id: DeliveryId {
                lane,
                seq: self.seqs[at],
            },
            was_due,
            to,
        };
        let mut settles = vec![
            settle(
                a,
                0,
                Some(self.due),
                SettleTo::Later(later(self.due.plus(Duration::from_secs(9)), 2)),
            ),
            settle(a, 2, None, SettleTo::Dead(evidence("2"))),
            settle(a, 3, None, SettleTo::Settled),
        ];
        settles.extend((5..10).map(|at| settle(b, at, None, SettleTo::Settled)));
        Batch {
            accepts: vec![delayed, large],
            settles,
        }
    }

    /// What comes right behind it: more is settled of the first slot, and an event comes for which the slot that the
    /// first batch has freed is used again.
    fn next_batch(&self) -> Batch {
        let lane = self.lanes[1];
        let settled = self.seqs[..5].iter().map(|&seq| Settle {
            id: DeliveryId { lane, seq },
            was_due: None,
            to: SettleTo::Settled,
        });
        Batch {
            accepts: vec![group(&["next"], 10, &[lane])],
            settles: settled.collect(),
        }
    }

    /// The states that each delivery of the first slot and lane may be in.
    fn check(&self, store: &SledStore, what: &str) {
        let now = start().plus(Duration::from_secs(3600));
        let answer = store.due(self.lanes[0], &query(now)).unwrap();
        let dead = store.dead(&DeadFilter::default(), None, 100).unwrap().letters;
        for at in 0..5 {
            let seq = self.seqs[at];
            let fresh = answer.fresh.iter().filter(|due| due.seq == seq).count();
            let deferred: Vec<u32> = answer
                .deferred
                .iter()
                .filter(|due| due.seq == seq)
                .map(|due| due.tries)
                .collect();
            let dead = dead.iter().filter(|letter| letter.id.seq == seq).count();
            let state = (fresh, &deferred[..], dead);
            let legal = match at {
                0 => matches!(state, (0, [1 | 2], 0)),
                1 => state == (0, &[], 1),
                2 => matches!(state, (1, [], 0) | (0, [], 1)),
                3 => matches!(state, (1 | 0, [], 0)),
                _ => state == (1, &[], 0),
            };
            assert!(legal, "{what}: delivery {at} is in state {state:?}");
        }
        let large = store.find("large-1", 9).unwrap().len() + store.find("large-3", 9).unwrap().len();
        assert_ne!(large, 1, "{what}: half a group");
        let kept: Vec<Seq> = self.lanes.iter().flat_map(|lane| fresh(store, *lane)).collect();
        assert!(store.load(&kept).iter().all(Result::is_ok), "{what}");
        self.check_ids(store, what);
    }

    /// An id is known if and only if its event was accepted for good.
    fn check_ids(&self, store: &SledStore, what: &str) {
        for (id, old) in [
            ("0", true),
            ("5", true),
            ("9", true),
            ("delayed", false),
            ("large-2", false),
            ("next", false),
        ] {
            let kept = !store.find(id, 1).unwrap().is_empty();
            let again = accept(store, vec![group(&[id], 10, &[self.lanes[1]])]);
            assert_eq!(again.is_empty(), old || kept, "{what}: {id} sent again");
            assert!(
                again.iter().all(|seq| !self.seqs.contains(seq)),
                "{what}: a number used twice"
            );
        }
    }
}

/// A2, A4: a kill after any single write of a commit, and of the next one that is written before the first is durable,
/// leaves a store that opens, has kept every promise, and has the new events whole or not at all.
#[test]
fn a2_every_beginning_of_a_commit_is_safe() {
    let scene = scene();
    let tape = {
        let (store, _copy) = reopen_copy(scene.folder.path());
        *store.engine.load().tape.lock().unwrap() = Some(Vec::new());
        store.stage(scene.batch(), start()).unwrap();
        store.stage(scene.next_batch(), start()).unwrap();
        store.sync().unwrap();
        scene.check(&store, "the whole commit");
        taken_tape(&store)
    };
    for writes in 0..=tape.len() {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(scene.folder.path(), copy.path());
        let engine = Engine::open(&copy.path().join("queue-1")).unwrap();
        engine.replay(&tape[..writes]);
        drop(engine);
        let store = open(copy.path());
        assert_eq!(store.verify().unwrap().problems, [""; 0], "{writes} writes");
        scene.check(&store, &format!("{writes} writes"));
    }
}

/// A2: nobody delivers what a power cut could still take away; whoever looks at it for other reasons sees it at once.
#[test]
fn a2_what_is_staged_is_given_once_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    let stage = |id: &str, deliver_at| {
        let mut group = group(&[id], 10, &[lane]);
        group.events[0].event.head.deliver_at = deliver_at;
        let batch = Batch {
            accepts: vec![group],
            settles: Vec::new(),
        };
        store.stage(batch, start()).unwrap();
    };
    let later = query(start().plus(Duration::from_secs(3600)));
    let given = || {
        let answer = store.due(lane, &later).unwrap();
        (answer.fresh.len(), answer.deferred.len())
    };
    stage("1", None);
    stage("2", Some(start().plus(Duration::from_secs(60))));
    assert_eq!((given(), store.lanes()[0].pending), ((0, 0), 2));
    let syncs = durable::syncs();
    store.sync().unwrap();
    assert!(durable::syncs() > syncs);
    assert_eq!(given(), (1, 1));
    stage("3", None);
    assert_eq!(given(), (1, 1));
    drop(store);
    let store = open(folder.path());
    assert_eq!(
        store.lanes()[0].pending,
        3,
        "this process went on, so all of it is there"
    );
}

/// A few events that stay must not keep their chunks; what they owe, and how, moves with them.
#[test]
fn sparse_slots_are_merged_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    let mut kept = Vec::new();
    for round in 0..3 {
        let ids: Vec<String> = (0..80).map(|n| format!("{round}-{n}")).collect();
        let seqs = accept(
            &store,
            vec![group(
                &ids.iter().map(String::as_str).collect::<Vec<_>>(),
                1000,
                &[lane],
            )],
        );
        kept.push(seqs[40]);
        let settles = seqs.iter().filter(|seq| **seq != seqs[40]).map(|seq| Settle {
            id: DeliveryId { lane, seq: *seq },
            was_due: None,
            to: SettleTo::Settled,
        });
        store
            .commit(
                Batch {
                    accepts: Vec::new(),
                    settles: settles.collect(),
                },
                start(),
            )
            .unwrap();
    }
    let due = start().plus(Duration::from_secs(60));
    settle(
        &store,
        DeliveryId { lane, seq: kept[1] },
        None,
        SettleTo::Later(later(due, 1)),
    );
    settle(
        &store,
        DeliveryId { lane, seq: kept[2] },
        None,
        SettleTo::Dead(evidence("2-40")),
    );
    let before = lock(&store.writer).occupied();
    let now = start().plus(Duration::from_secs(60));
    while store.maintain(now, Timestamp(0)).unwrap().more {}
    assert!(lock(&store.writer).occupied() < before / 20);
    assert_eq!(lock(&store.index).slots_from(0).count(), 1);
    drop(store);
    let store = open(folder.path());
    let answer = store.due(lane, &query(due)).unwrap();
    assert_eq!(
        answer.fresh.iter().map(|due| due.seq).collect::<Vec<_>>(),
        kept[..1]
    );
    assert_eq!(answer.deferred, [Due::deferred(kept[1], due, 1)]);
    assert_eq!(
        store
            .dead_letter(DeliveryId { lane, seq: kept[2] })
            .unwrap()
            .unwrap()
            .id
            .seq,
        kept[2]
    );
    assert_eq!(&*store.load(&kept)[2].as_ref().unwrap().head.id, "2-40");
    for id in ["0-0", "0-40", "2-79"] {
        assert!(
            accept(&store, vec![group(&[id], 10, &[lane])]).is_empty(),
            "{id} is still known"
        );
    }
}

/// Clears what freed slots still hold.
fn clear_all(store: &SledStore) {
    let clear = |draft: &mut Draft<'_>| {
        draft.scrub(0);
        Ok(())
    };
    store.transact(None, clear).unwrap();
}

/// What every beginning of a merge leaves behind: each event once.
#[test]
fn every_beginning_of_a_merge_is_safe() {
    let folder = tempfile::tempdir().unwrap();
    let (lane, kept) = {
        let store = open(folder.path());
        let lane = store.lane("a").unwrap();
        (lane, sparse(&store, lane))
    };
    let tape = {
        let (store, _copy) = reopen_copy(folder.path());
        *store.engine.load().tape.lock().unwrap() = Some(Vec::new());
        assert!(store.compact(much_later()).unwrap());
        clear_all(&store);
        let tape = taken_tape(&store);
        let cleared = tape.iter().filter(|write| write.key == keys::chunk(0, 0));
        assert!(cleared.count() > 0, "with the clearing of what was merged");
        tape
    };
    for writes in 0..=tape.len() {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(folder.path(), copy.path());
        let engine = Engine::open(&copy.path().join("queue-1")).unwrap();
        engine.replay(&tape[..writes]);
        drop(engine);
        let store = open(copy.path());
        assert_eq!(fresh(&store, lane), kept, "{writes} writes");
        assert!(store.load(&kept).iter().all(Result::is_ok), "{writes} writes");
        for id in ["0-0", "0-7", "1-7", "1-15"] {
            assert!(
                accept(&store, vec![group(&[id], 10, &[lane])]).is_empty(),
                "{writes} writes: {id}"
            );
        }
    }
}

/// At rest a store is rewritten for less than it is at work, and not again when that has been done.
#[test]
fn a_store_at_rest_gives_more_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    for round in 0..250 {
        let seq = accept(&store, vec![group(&[&format!("{round}")], 90_000, &[lane])])[0];
        settle(&store, DeliveryId { lane, seq }, None, SettleTo::Settled);
    }
    while store.maintain(start(), Timestamp(0)).unwrap().more {}
    let at_work = store.stats();
    assert!((12 << 20..64 << 20).contains(&at_work.disk_bytes), "{at_work:?}");
    store.rest(start()).unwrap();
    let rested = store.stats();
    assert!(rested.disk_bytes < at_work.disk_bytes, "{at_work:?} {rested:?}");
    assert_eq!(rested.dedup_ids, at_work.dedup_ids);
    let number = files::current(folder.path()).unwrap();
    store.rest(start()).unwrap();
    assert_eq!(
        files::current(folder.path()).unwrap(),
        number,
        "nothing more to gain"
    );
}

/// At work the engine's file would grow without end, because it moves fewer pages out of segments that are mostly empty
/// than there come to be; with some help it does not.
#[test]
fn a_store_at_work_uses_its_file_again() {
    let disk_bytes = |pages_to_tidy| {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        store.writer.lock().unwrap().pages_to_tidy = pages_to_tidy;
        let lane = store.lane("a").unwrap();
        let mut owed = std::collections::VecDeque::new();
        for round in 0..1500 {
            owed.extend(accept(
                &store,
                vec![group(&[&format!("{round}")], 90_000, &[lane])],
            ));
            if owed.len() > 40 {
                let seq = owed.pop_front().unwrap();
                settle(&store, DeliveryId { lane, seq }, None, SettleTo::Settled);
            }
        }
        store.stats().disk_bytes
    };
    let (alone, helped) = (disk_bytes(0), disk_bytes(4));
    assert!(helped < 40 << 20, "{alone} {helped}");
    assert!(alone > helped * 3 / 2, "{alone} {helped}");
}

/// What ids take in pages: 16 bytes each, whatever the number of flushes and of leaves that were split meanwhile, with a
/// part more for keys and for leaves written anew, and what an empty store takes.
#[test]
fn an_id_is_written_once_by_its_page_and_once_by_a_rewrite() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        dedup_ids_max: 1_000_000,
        ..config(folder.path())
    };
    let store = SledStore::open(&config, OpenOptions::default()).unwrap();
    const IDS: u64 = 200_000;
    let empty_bytes = store.stats().disk_bytes;
    for lot in 0..IDS / 1000 {
        let id = |n: u64| (store_hash(lot * 1000 + n), start());
        store
            .transact(start(), |draft| draft.keep_ids((0..1000).map(id).collect()))
            .unwrap();
    }
    let of_ids = |store: &SledStore| (store.stats().disk_bytes - empty_bytes) as f64 / (IDS * 16) as f64;
    let kept = of_ids(&store);
    assert!((1.0..1.2).contains(&kept), "{kept} times their bytes");
    let mut writer = store.working_writer().unwrap();
    store.rewrite_now(&mut writer, start()).unwrap();
    assert_eq!(writer.ids.len() as u64, IDS);
    drop(writer);
    let copied = of_ids(&store);
    assert!((1.0..1.1).contains(&copied), "{copied} times their bytes");
    // Pages that follow find their keys made.
    let more = vec![(store_hash(IDS), start())];
    *store.engine.load().tape.lock().unwrap() = Some(Vec::new());
    store.transact(start(), |draft| draft.keep_ids(more)).unwrap();
    assert_eq!(taken_tape(&store).len(), 1);
    drop(store);
    let store = SledStore::open(&config, OpenOptions::default()).unwrap();
    assert_eq!(store.stats().dedup_ids, IDS + 1);
}

/// Dead letters much larger than usual are written once as well, and what they take is known from then on: a store
/// that holds nothing else is not rewritten at every rest.
#[test]
fn large_dead_letters_are_copied_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    const LETTERS: u64 = 4000;
    let ids: Vec<String> = (0..LETTERS).map(|n| n.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    for seqs in accept(&store, vec![group(&ids, 10, &[lane])]).chunks(500) {
        let settles = seqs.iter().map(|seq| {
            let mut large = evidence("large");
            let mut last = Attempt::new(1, start(), Outcome::Rejected);
            last.response_excerpt = "x".repeat(EXCERPT_BYTES_MAX);
            large.last = Some(last);
            Settle {
                id: DeliveryId { lane, seq: *seq },
                was_due: None,
                to: SettleTo::Dead(large),
            }
        });
        let batch = Batch {
            accepts: Vec::new(),
            settles: settles.collect(),
        };
        store.commit(batch, start()).unwrap();
    }
    let letters_bytes = LETTERS * EXCERPT_BYTES_MAX as u64;
    store.rest(start()).unwrap();
    let rested = store.stats().disk_bytes;
    let wanted = letters_bytes..letters_bytes * 5 / 4;
    assert!(wanted.contains(&rested), "{rested} not in {wanted:?}");
    let number = files::current(folder.path()).unwrap();
    assert_eq!(number, Some(2), "it was rewritten");
    store.rest(start()).unwrap();
    assert_eq!(files::current(folder.path()).unwrap(), number, "and not again");
    assert_eq!(store.lanes()[0].dead, LETTERS);
}

/// A hash like those of ids: no two alike, and nothing in it that repeats.
fn store_hash(n: u64) -> ids::IdHash {
    ids::IdHasher::new(&[7; 16]).hash("/test", &n.to_string())
}

/// A backlog that has gone leaves its ids on the disk and little else, once the store has rested.
#[test]
fn a_backlog_leaves_no_more_than_its_ids() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        dedup_ids_max: 1_000_000,
        ..config(folder.path())
    };
    let store = SledStore::open(&config, OpenOptions::default()).unwrap();
    let lane = store.lane("a").unwrap();
    let mut owed = Vec::new();
    for round in 0..50 {
        let ids: Vec<String> = (0..1000).map(|n| format!("{round}-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        owed.push(accept(&store, vec![group(&ids, 300, &[lane])]));
    }
    let full = store.stats();
    assert!(full.disk_bytes > 16 << 20, "{full:?}");
    for seqs in owed {
        let settles = seqs.into_iter().map(|seq| Settle {
            id: DeliveryId { lane, seq },
            was_due: None,
            to: SettleTo::Settled,
        });
        let batch = Batch {
            accepts: Vec::new(),
            settles: settles.collect(),
        };
        store.commit(batch, start()).unwrap();
    }
    while store.maintain(start(), Timestamp(0)).unwrap().more {}
    store.rest(start()).unwrap();
    let rested = store.stats();
    assert_eq!(rested.dedup_ids, 50_000);
    assert!(rested.disk_bytes < 50_000 * 16 * 5 / 4 + (64 << 10), "{rested:?}");
}

/// Disk is given back once the backlog has drained, and what is left is all there.
#[test]
fn a_mostly_empty_store_is_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.rewrite_bytes_min = 0;
    let lane = store.lane("a").unwrap();
    let left = accept(&store, vec![group(&["left"], 200_000, &[lane])])[0];
    for round in 0..200 {
        let seq = accept(&store, vec![group(&[&format!("{round}")], 90_000, &[lane])])[0];
        settle(&store, DeliveryId { lane, seq }, None, SettleTo::Settled);
    }
    let dead = accept(&store, vec![group(&["dead"], 10, &[lane])])[0];
    settle(
        &store,
        DeliveryId { lane, seq: dead },
        None,
        SettleTo::Dead(evidence("dead")),
    );
    let before = store.stats();
    while store.maintain(start(), Timestamp(0)).unwrap().more {}
    let after = store.stats();
    assert!(
        after.disk_bytes < before.disk_bytes,
        "{} then {}",
        before.disk_bytes,
        after.disk_bytes
    );
    assert_eq!((after.events, after.dedup_ids), (2, before.dedup_ids));
    assert!(!folder.path().join("queue-1").exists());
    for _ in 0..2 {
        assert_eq!(fresh(&store, lane), [left]);
        assert_eq!(&*store.load(&[left])[0].as_ref().unwrap().head.id, "left");
        assert!(
            store
                .dead_letter(DeliveryId { lane, seq: dead })
                .unwrap()
                .is_some()
        );
        assert!(
            accept(&store, vec![group(&["7"], 10, &[lane])]).is_empty(),
            "ids are still known"
        );
        drop(store);
        store = open(folder.path());
    }
}

/// G4: damage is set aside with its bytes and counted; the rest goes on, also after a restart.
#[test]
fn g4_damaged_records_are_set_aside_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    let seqs: Vec<Seq> = (0..4)
        .map(|n| accept(&store, vec![group(&[&format!("{n}")], 10, &[lane])])[0])
        .collect();
    drop(store);
    let engine = Engine::open(&folder.path().join("queue-1")).unwrap();
    let mut value = engine.get(&keys::chunk(0, 0)).unwrap().unwrap().to_vec();
    let last = value.len() - 1;
    value[last] ^= 1;
    let write = |key: Vec<u8>, value: Vec<u8>| plan::Write {
        key,
        value: Some(value.into()),
    };
    engine.replay(&[
        write(keys::chunk(0, 0), value),
        write(keys::slot(1), vec![1, 2, 3]),
    ]);
    drop(engine);

    let store = open(folder.path());
    assert_eq!(store.stats().quarantined, 1, "the record of slot 1");
    assert!(matches!(store.load(&[seqs[0]])[0], Err(LoadError::Damaged(..))));
    assert!(matches!(store.load(&[seqs[0]])[0], Err(LoadError::Damaged(..))));
    assert_eq!(store.load(&[seqs[1]])[0], Err(LoadError::Missing(seqs[1])));
    assert_eq!(fresh(&store, lane), [seqs[0], seqs[2], seqs[3]]);
    settle(&store, DeliveryId { lane, seq: seqs[2] }, None, SettleTo::Settled);
    drop(store);
    let store = open(folder.path());
    let report = store.verify().unwrap();
    assert_eq!((report.events, report.damaged, report.quarantined), (2, 1, 2));
    assert!(
        report.problems[0].contains("event 1 in slot 0"),
        "{:?}",
        report.problems
    );
    let aside = store.quarantine(10);
    assert_eq!(aside.len(), 2);
    assert_eq!((&*aside[0].what, aside[1].what.as_str()), ("event 1", "slot 1"));
    assert_eq!(aside[1].bytes, [1, 2, 3]);
    assert_eq!(store.stats().quarantined, 2);
    accept(&store, vec![group(&["new"], 10, &[lane])]);
    assert!(
        store
            .engine
            .load()
            .get(&keys::chunk(1, 0))
            .unwrap()
            .is_some_and(|chunk| chunk.len() > 20)
    );
}

/// A store that will not open is kept whole, and only the flag begins anew.
#[test]
fn what_will_not_open_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let queue = folder.path().join("queue-1");
    std::fs::write(queue.join("db"), vec![0xAB; 4 << 20]).unwrap();
    let look = OpenOptions {
        check_only: true,
        ..OpenOptions::default()
    };
    let refused = SledStore::open(&config(folder.path()), look).unwrap_err();
    assert!(matches!(refused, OpenError::Unreadable { .. }), "{refused}");
    assert!(queue.exists(), "looking leaves it where it was");
    let refused = SledStore::open(&config(folder.path()), OpenOptions::default()).unwrap_err();
    let OpenError::Corrupt { kept, .. } = &refused else {
        panic!("{refused}")
    };
    assert!(kept.join("db").exists() && !queue.exists());
    let refused = SledStore::open(&config(folder.path()), OpenOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("--start-empty"), "{refused}");
    let options = OpenOptions {
        start_empty: true,
        check_only: false,
    };
    let store = SledStore::open(&config(folder.path()), options).unwrap();
    assert_eq!(store.stats().events, 0);
    assert!(kept.exists());
}

/// I4: too large a store, or too full a disk, refuses events and goes on settling.
#[test]
fn i4_limits_refuse_events_and_let_settling_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let small = StoreConfig {
        size_bytes_max: 20_000,
        ..config(folder.path())
    };
    let store = SledStore::open(&small, OpenOptions::default()).unwrap();
    let lane = store.lane("a").unwrap();
    let seq = accept(&store, vec![group(&["a"], 15_000, &[lane])])[0];
    let refused = |store: &SledStore, id: &str| {
        let batch = Batch {
            accepts: vec![group(&[id], 15_000, &[lane])],
            settles: Vec::new(),
        };
        store.commit(batch, start()).unwrap().accepts[0].clone().err()
    };
    assert_eq!(refused(&store, "b"), Some(Refusal::QueueFull));
    settle(&store, DeliveryId { lane, seq }, None, SettleTo::Settled);
    assert_eq!(
        refused(&store, "b"),
        None,
        "a refused event's id is not remembered"
    );
    drop(store);
    let full = StoreConfig {
        free_min: FreeMin::Percent(100.0),
        ..config(folder.path())
    };
    let store = SledStore::open(&full, OpenOptions::default()).unwrap();
    assert_eq!(refused(&store, "c"), Some(Refusal::DiskFull));
    assert_eq!(store.stats().refusing.as_deref(), Some("disk_full"));
    let seq = fresh(&store, lane)[0];
    settle(&store, DeliveryId { lane, seq }, None, SettleTo::Settled);
    assert_eq!(store.stats().events, 0);
}

/// G1: dead letters are bounded by age; ids by the window.
#[test]
fn g1_old_dead_letters_and_ids_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    let seq = accept(&store, vec![group(&["a"], 10, &[lane])])[0];
    settle(
        &store,
        DeliveryId { lane, seq },
        None,
        SettleTo::Dead(evidence("a")),
    );
    store
        .maintain(start(), start().plus(Duration::from_secs(1)))
        .unwrap();
    assert_eq!(
        (
            store.stats().events,
            store.lanes()[0].dead,
            store.stats().dedup_ids
        ),
        (0, 0, 1)
    );
    store
        .maintain(start().plus(Duration::from_secs(3601)), start())
        .unwrap();
    assert_eq!(store.stats().dedup_ids, 0);
    assert_eq!(accept(&store, vec![group(&["a"], 10, &[lane])]).len(), 1);
}

/// A2: after a change that ended in a panic nothing is accepted any more; what it was about may be half
/// known in memory.
#[test]
fn a2_a_panic_in_a_change_ends_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    let change = || store.transact(None, |_| -> Result<(), StoreError> { panic!("as sled might") });
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(change)).unwrap_err();
    let batch = Batch {
        accepts: vec![group(&["x"], 10, &[lane])],
        settles: Vec::new(),
    };
    assert!(store.commit(batch, start()).is_err());
    assert!(store.close().is_err());
}

/// What a page of a flush or a move costs is its size, and a settle that crosses a flush costs a few
/// look-ups; neither reads through the lane.
#[test]
fn a_long_lane_is_not_read_through() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (a, b) = (store.lane("a").unwrap(), store.lane("b").unwrap());
    let ids: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let seqs = accept(&store, vec![group(&ids, 10, &[a])]);
    let due = start().plus(Duration::from_secs(60));
    let settles = seqs.iter().map(|seq| Settle {
        id: DeliveryId { lane: a, seq: *seq },
        was_due: None,
        to: SettleTo::Later(later(due, 1)),
    });
    let batch = Batch {
        accepts: Vec::new(),
        settles: settles.collect(),
    };
    store.commit(batch, start()).unwrap();
    let engine = store.engine.load_full();
    let read = || {
        engine
            .read_in_ranges
            .swap(0, std::sync::atomic::Ordering::Relaxed)
    };
    read();
    let page = store.flush_lane(a, start(), None, 10).unwrap();
    assert_eq!((page.moved, read()), (10, 10));
    store.flush_lane(a, start(), page.next, 10).unwrap();
    read();
    let id = DeliveryId {
        lane: a,
        seq: seqs[0],
    };
    settle(&store, id, Some(due), SettleTo::Settled);
    assert_eq!(read(), 0, "its place is known");
    assert_eq!(store.reassign(a, b, 10, start()).unwrap(), 10);
    assert_eq!(read(), 10);
    drop(engine);
    drop(store);
    let store = open(folder.path());
    let answer = store.due(a, &query(Timestamp::MAX)).unwrap();
    assert_eq!(answer.deferred.len(), 500 - 1 - 10);
    assert_eq!(fresh(&store, b).len(), 10);
    assert_eq!(store.verify().unwrap().problems, [""; 0]);
}

/// Two slots of which one event each is left, so that a merge takes both; says which events these are.
fn sparse(store: &SledStore, lane: LaneId) -> Vec<Seq> {
    let mut kept = Vec::new();
    for round in 0..2 {
        let ids: Vec<String> = (0..16).map(|n| format!("{round}-{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let seqs = accept(store, vec![group(&ids, 2000, &[lane])]);
        kept.push(seqs[7]);
        for seq in seqs.into_iter().filter(|seq| !kept.contains(seq)) {
            settle(store, DeliveryId { lane, seq }, None, SettleTo::Settled);
        }
    }
    kept
}

/// When sparse slots are old enough to be merged.
fn much_later() -> Timestamp {
    start().plus(Duration::from_secs(60))
}

fn empty_cache(store: &SledStore) {
    *lock(&store.cache) = ChunkCache::new(CACHE_BYTES);
}

/// Whoever reads while a merge is on disk and not yet in memory finds the events where they were, and where
/// they are afterwards; what they left is cleared by the commit after that.
#[test]
fn a_merge_takes_nothing_from_a_reader() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    let kept = sparse(&store, lane);
    let all_there = || {
        empty_cache(&store);
        store.load(&kept).iter().all(Result::is_ok)
    };
    let engine = store.engine.load_full();
    let chunk_bytes = |slot| engine.get(&keys::chunk(slot, 0)).unwrap().unwrap().len();
    let mut writer = store.working_writer().unwrap();
    let mut draft = Draft::new(&engine, &store.index, &mut writer, much_later());
    assert!(store.merge_a_run(&mut draft).unwrap());
    let (plan, effects) = draft.finish().unwrap();
    engine.write(plan).unwrap();
    engine.flush().unwrap();
    assert!(all_there(), "memory still points at the old slots");
    store.apply(&mut writer, effects);
    drop(writer);
    assert!(all_there());
    assert!(chunk_bytes(0) > 10_000 && chunk_bytes(1) > 10_000);
    clear_all(&store);
    assert_eq!((chunk_bytes(0), chunk_bytes(1)), (1, 1));
    assert!(all_there());
    assert_eq!(store.stats().quarantined, 0);
}

/// What memory holds of a chunk may be wrong while the disk is right: it is read anew before an event is called
/// damaged.
#[test]
fn g4_an_event_is_read_from_the_disk_before_it_is_called_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    let seq = accept(&store, vec![group(&["a"], 10, &[lane])])[0];
    let place = lock(&store.index).place(seq).unwrap();
    lock(&store.cache).insert(place.generation, Bytes::from_static(b"something else"));
    assert_eq!(&*store.load(&[seq])[0].as_ref().unwrap().head.id, "a");
    assert_eq!(store.stats().quarantined, 0);
}

/// A slot that is taken again before it could be cleared keeps what it holds now.
#[test]
fn a_slot_that_is_in_use_again_is_not_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    let first = accept(&store, vec![group(&["first"], 20_000, &[lane])])[0];
    settle(&store, DeliveryId { lane, seq: first }, None, SettleTo::Settled);
    let second = accept(&store, vec![group(&["second"], 20_000, &[lane])])[0];
    assert_eq!(lock(&store.index).place(second).unwrap().slot, 0);
    empty_cache(&store);
    assert_eq!(&*store.load(&[second])[0].as_ref().unwrap().head.id, "second");
}

/// Freed slots wait for their next use, the last one first, and are cleared when there are many of them or at the next
/// housekeeping.
#[test]
fn freed_slots_are_cleared_when_they_are_not_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    let slots = draft::UNCLEARED_MAX + 3;
    let ids: Vec<String> = (0..=slots).map(|n| n.to_string()).collect();
    let accept_one = |at: usize| accept(&store, vec![group(&[&ids[at]], 20_000, &[lane])])[0];
    let seqs: Vec<Seq> = (0..slots).map(accept_one).collect();
    for seq in seqs {
        settle(&store, DeliveryId { lane, seq }, None, SettleTo::Settled);
    }
    let cleared = || {
        let bytes = |slot| {
            store
                .engine
                .load()
                .get(&keys::chunk(slot, 0))
                .unwrap()
                .unwrap()
                .len()
        };
        (0..slots as u32)
            .filter(|slot| bytes(*slot) == 1)
            .collect::<Vec<_>>()
    };
    // The slots that the last change freed are looked at by the next one.
    assert_eq!(cleared(), [0, 1]);
    let last = accept_one(slots);
    assert_eq!(lock(&store.index).place(last).unwrap().slot as usize, slots - 1);
    assert_eq!(cleared(), [0, 1], "one of those that wait is in use again");
    store.maintain(start(), Timestamp(0)).unwrap();
    assert_eq!(cleared().len(), slots - 1);
    empty_cache(&store);
    assert_eq!(&*store.load(&[last])[0].as_ref().unwrap().head.id, ids[slots]);
}

/// A place means nothing in another engine, so nobody may ever see the index of one beside the other.
#[test]
fn a_rewrite_moves_engine_and_index_at_once() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let lane = store.lane("a").unwrap();
    let gone = accept(&store, vec![group(&["gone"], 20_000, &[lane])])[0];
    let seq = accept(&store, vec![group(&["kept"], 20_000, &[lane])])[0];
    settle(&store, DeliveryId { lane, seq: gone }, None, SettleTo::Settled);
    let done = AtomicBool::new(false);
    // Each holds the lock nearly all of the time, so a change beside it is nearly always seen.
    let watch = || {
        while !done.load(Ordering::Relaxed) {
            let index = lock(&store.index);
            let before = (
                store.engine.load().folder().to_owned(),
                index.place(seq).unwrap().slot,
            );
            let since = std::time::Instant::now();
            while since.elapsed() < Duration::from_micros(500) {
                std::hint::spin_loop();
            }
            let after = store.engine.load().folder().to_owned();
            drop(index);
            assert_eq!(before.0, after, "the engine changed under the lock");
            let number = if before.1 == 1 { "queue-1" } else { "queue-2" };
            assert!(
                after.ends_with(number),
                "slot {} in {}",
                before.1,
                after.display()
            );
            std::thread::yield_now();
        }
    };
    let read = || {
        while !done.load(Ordering::Relaxed) {
            empty_cache(&store);
            store.load(&[seq])[0].as_ref().unwrap();
        }
    };
    std::thread::scope(|scope| {
        let watchers = [scope.spawn(watch), scope.spawn(read)];
        let rewritten = store
            .working_writer()
            .and_then(|mut writer| store.rewrite_now(&mut writer, start()));
        done.store(true, Ordering::Relaxed);
        rewritten.unwrap();
        watchers.into_iter().for_each(|watcher| watcher.join().unwrap());
    });
    assert_eq!(lock(&store.index).place(seq).unwrap().slot, 0);
    assert_eq!(store.stats().quarantined, 0);
}
