//! I6: what can be read is kept, what can't is told and written out, and the damaged queue is kept whole.

use std::path::Path;

use super::super::tests::{accept, config, event, evidence, fresh, group, later, open, settle, start};
use super::super::{keys, plan};
use super::*;
use crate::domain::event::Seq;
use crate::store::{DeliveryId, LaneId, Pause, SettleTo};

/// Writes these values into the queue, behind its back.
fn damage(folder: &Path, writes: &[(Vec<u8>, Vec<u8>)]) {
    let engine = Engine::open(&folder.join("queue-1")).unwrap();
    let writes: Vec<plan::Write> = writes
        .iter()
        .map(|(key, value)| plan::Write {
            key: key.clone(),
            value: Some(value.as_slice().into()),
        })
        .collect();
    engine.replay(&writes);
}

fn value(folder: &Path, key: &[u8]) -> Vec<u8> {
    let engine = Engine::open(&folder.join("queue-1")).unwrap();
    engine.get(key).unwrap().unwrap().to_vec()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Three lanes' worth of everything: fresh, deferred, dead, paused; one event larger than a slot.
fn fill(folder: &Path) -> (Vec<Seq>, [LaneId; 2]) {
    let store = open(folder);
    let lanes = [store.lane("a").unwrap(), store.lane("b").unwrap()];
    let mut seqs = accept(&store, vec![group(&["0", "1", "2"], 10, &lanes)]);
    seqs.extend(accept(&store, vec![group(&["large"], 250_000, &lanes)]));
    seqs.extend(accept(&store, vec![group(&["late"], 10, &lanes)]));
    let id = |lane: usize, at: usize| DeliveryId {
        lane: lanes[lane],
        seq: seqs[at],
    };
    let due = start().plus(std::time::Duration::from_secs(99));
    settle(&store, id(0, 0), None, SettleTo::Later(later(due, 3)));
    settle(&store, id(1, 0), None, SettleTo::Dead(evidence("0")));
    settle(&store, id(0, 2), None, SettleTo::Settled);
    let pause = Pause {
        by: "operator".into(),
        reason: "test".into(),
        since: start(),
        until: None,
    };
    store.pause(lanes[1], Some(pause)).unwrap();
    (seqs, lanes)
}

#[test]
fn i6_a_sound_store_needs_no_repair() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let before = names(folder.path());
    let repair = Repair::plan(&config(folder.path()), None).unwrap();
    assert!(!repair.shown().is_needed);
    assert_eq!((repair.shown().events, repair.shown().deliveries), (5, 9));
    drop(repair);
    assert_eq!(names(folder.path()), before);
}

#[test]
fn i6_a_repair_keeps_what_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (seqs, lanes) = fill(folder.path());
    // One byte of the last event in the first chunk, the record of the large one's slot, a page that is no page.
    let mut first = value(folder.path(), &keys::chunk(0, 0));
    *first.last_mut().unwrap() ^= 1;
    let large_slot = keys::slot(1);
    assert!(!value(folder.path(), &large_slot).is_empty());
    damage(
        folder.path(),
        &[(keys::chunk(0, 0), first), (large_slot, vec![1, 2, 3])],
    );
    let planned = Repair::plan(&config(folder.path()), None).unwrap();
    let plan = planned.shown().clone();
    assert!(plan.is_needed && plan.unreadable.is_none());
    assert_eq!((plan.events_lost, plan.deliveries_lost), (1, 1), "{plan:?}");
    assert_eq!((plan.events, plan.deliveries), (3, 6), "{plan:?}");
    let damaged: Vec<&str> = plan.damaged.iter().map(|record| &*record.what).collect();
    assert_eq!(damaged, ["slot 1", "event 3"]);
    drop(planned);
    assert!(
        folder.path().join("queue-1").is_dir() && !folder.path().join("queue-2").exists(),
        "a plan changes nothing"
    );

    let repaired = Repair::plan(&config(folder.path()), None)
        .unwrap()
        .carry_out()
        .unwrap();
    assert_eq!(
        (
            repaired.holds.events,
            repaired.holds.damaged,
            repaired.holds.quarantined
        ),
        (3, 0, 0)
    );
    assert_eq!(
        (
            repaired.holds.pending,
            repaired.holds.deferred,
            repaired.holds.dead
        ),
        (5, 1, 1)
    );
    assert!(repaired.kept.as_ref().unwrap().join("db").is_file());
    let quarantine = repaired.quarantine.unwrap();
    assert_eq!(
        names(&quarantine),
        ["0000.bin", "0001.bin", "events.ndjson", "list.jsonl"]
    );
    assert_eq!(fs::read(quarantine.join("0000.bin")).unwrap(), [1, 2, 3]);

    let store = open(folder.path());
    assert_eq!(fresh(&store, lanes[0]), [seqs[1], seqs[4]]);
    assert_eq!(store.load(&[seqs[1]])[0], Ok(event("1", 10)));
    assert!(
        store
            .dead_letter(DeliveryId {
                lane: lanes[1],
                seq: seqs[0]
            })
            .unwrap()
            .is_some()
    );
    assert_eq!(store.pauses()[0].0, lanes[1]);
    assert!(
        accept(&store, vec![group(&["0"], 10, &lanes)]).is_empty(),
        "ids are remembered"
    );
    assert!(
        accept(&store, vec![group(&["new"], 10, &lanes)])[0] > seqs[4],
        "no number is given out twice"
    );
}

/// Events whose record is gone are written out, for whoever knows whether they are owed.
#[test]
fn i6_events_without_a_record_are_written_out() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    damage(folder.path(), &[(keys::slot(0), vec![9])]);
    let repair = Repair::plan(&config(folder.path()), None).unwrap();
    assert_eq!(repair.shown().strays, 3);
    let quarantine = repair.carry_out().unwrap().quarantine.unwrap();
    let text = fs::read_to_string(quarantine.join("events.ndjson")).unwrap();
    assert_eq!(text.lines().count(), 3);
    assert!(text.starts_with("{\"id\":\"0\""), "{text}");
}

/// A chunk that is not there any more costs its own events and nothing else.
#[test]
fn i6_a_lost_chunk_costs_its_own_events() {
    let folder = tempfile::tempdir().unwrap();
    let (seqs, lanes) = fill(folder.path());
    damage(folder.path(), &[(keys::chunk(0, 0), b"nothing".to_vec())]);
    let repaired = Repair::plan(&config(folder.path()), None)
        .unwrap()
        .carry_out()
        .unwrap();
    assert_eq!((repaired.holds.events, repaired.holds.damaged), (2, 0));
    let store = open(folder.path());
    assert_eq!(fresh(&store, lanes[0]), [seqs[3], seqs[4]]);
    assert!(
        store.load(&[seqs[3]])[0].is_ok(),
        "a chunk of several slots is copied whole"
    );
}

/// What the daemon has set aside is repaired from there; what can't be read at all is said to be so.
#[test]
fn i6_a_queue_that_was_set_aside_is_repaired_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let (_, lanes) = fill(folder.path());
    let queue = folder.path().join("queue-1");
    // A witness that knows of more flushes than the log: as if its end had been lost.
    let witness = queue.join("flushes");
    let mut record = u64::MAX.to_be_bytes().to_vec();
    record.extend(crc32fast::hash(&record).to_be_bytes());
    fs::write(&witness, record).unwrap();
    let refused = SledStore::open(&config(folder.path()), OpenOptions::default()).unwrap_err();
    assert!(
        refused.to_string().contains("posthaste store repair --yes"),
        "{refused}"
    );
    assert!(!queue.exists());
    let refused = SledStore::open(&config(folder.path()), OpenOptions::default()).unwrap_err();
    assert!(
        refused.to_string().contains("posthaste store repair"),
        "{refused}"
    );

    let repair = Repair::plan(&config(folder.path()), None).unwrap();
    assert!(repair.shown().unreadable.is_some() && repair.shown().is_needed);
    let repaired = repair.carry_out().unwrap();
    assert_eq!(repaired.holds.events, 5);
    assert!(!folder.path().join(SCRATCH).exists());
    assert!(repaired.kept.as_ref().unwrap().join("db").is_file());
    assert_eq!(fresh(&open(folder.path()), lanes[0]).len(), 3);

    fs::write(folder.path().join("queue-2").join("db"), vec![0xAB; 4 << 20]).unwrap();
    let refused = Repair::plan(&config(folder.path()), None).unwrap_err();
    assert!(refused.to_string().contains("--start-empty"), "{refused}");
}

/// I3: the lock of a daemon that runs is respected, and its pid is told.
#[test]
fn i6_a_running_daemons_store_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let running = open(folder.path());
    let refused = Repair::plan(&config(folder.path()), None).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains(&format!("pid {}", std::process::id())),
        "{refused}"
    );
    drop(running);
}
