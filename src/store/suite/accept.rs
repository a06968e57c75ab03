//! What accepting promises: groups whole and in order, duplicates told, events kept as they came.

use std::time::Duration;

use super::rig::{Rig, T0, at, event, id, noise, owed, places, settle, to_dead};
use super::{End, Settings};
use crate::domain::event::{Event, Seq};
use crate::store::{AcceptGroup, Accepted, Batch, LoadError, SettleTo};

fn from_source(id: &str, source: &str) -> Event {
    let mut event = event(id);
    event.head.source = source.into();
    event
}

/// A2: places rise through the groups of a batch, each lane is owed its events in that order, and an
/// event is loaded as it came.
pub(super) fn a2_events_get_rising_places_and_are_kept_as_they_came(rig: &mut Rig) {
    let (one, two) = (rig.lane("one"), rig.lane("two"));
    let first = vec![owed(event("a"), &[one]), owed(event("b"), &[one, two])];
    let second = vec![owed(event("c"), &[two]), owed(event("d"), &[two, one])];
    let accepts = vec![AcceptGroup { events: first }, AcceptGroup { events: second }];
    let committed = rig.commit(
        Batch {
            accepts,
            settles: Vec::new(),
        },
        T0,
    );
    let groups: Vec<Vec<Seq>> = committed
        .accepts
        .into_iter()
        .map(|group| places(&group.unwrap()))
        .collect();
    let [a, b, c, d] = groups.concat()[..] else {
        panic!("four events, not {groups:?}")
    };
    assert!(a < b && b < c && c < d);
    assert_eq!(rig.fresh(one), [a, b, d]);
    assert_eq!(rig.fresh(two), [b, c, d]);
    for (seq, id) in [(a, "a"), (b, "b"), (c, "c"), (d, "d")] {
        assert_eq!(rig.store().load(&[seq]), [Ok(event(id))]);
        assert!(
            rig.store()
                .load_cached(seq)
                .is_none_or(|cached| cached == event(id))
        );
    }
}

/// A2: new events and the moves of old ones share a commit.
pub(super) fn a2_one_commit_may_accept_and_settle(rig: &mut Rig) {
    let lane = rig.lane("one");
    let old = rig.accept(&["old"], &[lane])[0];
    let accepts = vec![AcceptGroup {
        events: vec![owed(event("new"), &[lane])],
    }];
    let settles = vec![settle(lane, old, SettleTo::Settled)];
    let committed = rig.commit(Batch { accepts, settles }, at(1));
    let new = places(committed.accepts[0].as_ref().unwrap());
    assert_eq!(rig.fresh(lane), new);
}

pub(super) fn a2_an_empty_batch_is_no_error(rig: &mut Rig) {
    assert!(rig.commit(Batch::default(), T0).accepts.is_empty());
    let accepts = vec![AcceptGroup::default()];
    let committed = rig.commit(
        Batch {
            accepts,
            settles: Vec::new(),
        },
        T0,
    );
    assert_eq!(committed.accepts, [Ok(Vec::new())]);
}

/// A2: each lane's delivery lives its own life, and the event as long as the last of them.
pub(super) fn a2_an_event_stays_until_its_last_delivery_is_settled(rig: &mut Rig) {
    let lanes = [rig.lane("one"), rig.lane("two"), rig.lane("three")];
    let seq = rig.accept(&["a"], &lanes)[0];
    rig.settle(vec![settle(lanes[1], seq, SettleTo::Settled)]);
    assert_eq!(
        (rig.fresh(lanes[0]), rig.fresh(lanes[1]), rig.fresh(lanes[2])),
        (vec![seq], vec![], vec![seq])
    );
    rig.settle(vec![settle(lanes[0], seq, SettleTo::Settled)]);
    rig.settle(vec![settle(lanes[2], seq, to_dead("a"))]);
    assert_eq!(
        rig.store().load(&[seq]),
        [Ok(event("a"))],
        "a dead letter keeps its event"
    );
    rig.write(|store| store.discard(&[id(lanes[2], seq)]));
    assert_eq!(rig.store().load(&[seq]), [Err(LoadError::Missing(seq))]);
}

/// A2: a place that was used stays used, also when nothing is left and the store was closed in between.
pub(super) fn a2_places_are_never_used_twice(rig: &mut Rig) {
    let lane = rig.lane("one");
    let mut last = Seq(0);
    for round in 0..6 {
        let seqs = rig.accept(&[&format!("a{round}"), &format!("b{round}")], &[lane]);
        assert!(seqs[0] > last && seqs[1] > seqs[0], "{seqs:?} after {last:?}");
        last = seqs[1];
        rig.settle(
            seqs.iter()
                .map(|seq| settle(lane, *seq, SettleTo::Settled))
                .collect(),
        );
        rig.reopen(if round % 2 == 0 { End::Closed } else { End::Dropped });
    }
}

/// A4: a long line is one group, however many pieces the backend cuts it into.
pub(super) fn a4_an_array_of_5000_events_is_accepted_whole(rig: &mut Rig) {
    let (one, two) = (rig.lane("one"), rig.lane("two"));
    let events = (0..5000u32).map(|n| {
        let mut event = event(&format!("event-{n}"));
        event.json = noise(n.into(), 300 + n as usize % 200);
        owed(event, &[one, two][..if n % 3 == 0 { 2 } else { 1 }])
    });
    let accepted = rig.accept_group(events.collect(), T0);
    let seqs = places(&accepted);
    assert!(seqs.is_sorted_by(|a, b| a < b));
    assert_eq!(rig.fresh(one), seqs);
    assert_eq!(
        rig.fresh(two),
        seqs.iter().copied().step_by(3).collect::<Vec<_>>()
    );
    for n in [0u32, 1, 2499, 4999] {
        let loaded = rig.store().load(&[seqs[n as usize]]).remove(0).unwrap();
        assert_eq!(loaded.json, noise(n.into(), 300 + n as usize % 200));
    }
}

/// A5: duplicates are told in one group, in one commit, in a later one, after the event was delivered and
/// after the store was opened again; the same id from another source is another event.
pub(super) fn a5_duplicates_are_told_wherever_they_stand(rig: &mut Rig) {
    let lane = rig.lane("one");
    let line = vec![
        owed(event("a"), &[lane]),
        owed(event("b"), &[lane]),
        owed(event("a"), &[lane]),
    ];
    let again = vec![owed(event("b"), &[lane]), owed(event("c"), &[lane])];
    let other = vec![owed(from_source("a", "/other"), &[lane])];
    let accepts = [line, again, other].map(|events| AcceptGroup { events }).into();
    let committed = rig.commit(
        Batch {
            accepts,
            settles: Vec::new(),
        },
        T0,
    );
    let answers: Vec<_> = committed.accepts.into_iter().map(Result::unwrap).collect();
    let is_new = |answer: &Accepted| matches!(answer, Accepted::New(_));
    let told: Vec<Vec<bool>> = answers
        .iter()
        .map(|group| group.iter().map(is_new).collect())
        .collect();
    assert_eq!(told, [vec![true, true, false], vec![false, true], vec![true]]);
    let kept = rig.fresh(lane);
    assert_eq!(kept.len(), 4);
    rig.settle(
        kept.iter()
            .map(|seq| settle(lane, *seq, SettleTo::Settled))
            .collect(),
    );
    for end in [End::Closed, End::Dropped, End::Dropped] {
        rig.reopen(end);
        let line = ["a", "b", "c"].map(|id| owed(event(id), &[lane])).into_iter();
        let answers = rig.accept_group(
            line.chain([owed(from_source("a", "/other"), &[lane])]).collect(),
            at(1000),
        );
        assert_eq!(answers, [Accepted::Duplicate; 4]);
    }
    assert!(rig.fresh(lane).is_empty(), "a duplicate owes nothing");
}

/// A5: `dedup_window` counts from acceptance; a duplicate does not make it longer, a restart not shorter.
pub(super) fn a5_ids_are_forgotten_after_the_window(rig: &mut Rig) {
    rig.begin(Settings {
        dedup_window: Duration::from_secs(3600),
        ..Settings::default()
    });
    let lane = rig.lane("one");
    let minute = |n: u64| at(n * 60_000);
    let offer = |rig: &mut Rig, now| {
        let mut event = event("a");
        event.head.accepted = now;
        rig.accept_group(vec![owed(event, &[lane])], now)[0]
    };
    let first = offer(rig, minute(0));
    assert_eq!(offer(rig, minute(30)), Accepted::Duplicate);
    rig.reopen(End::Dropped);
    assert_eq!(offer(rig, minute(59)), Accepted::Duplicate);
    rig.reopen(End::Closed);
    let second = offer(rig, minute(61));
    assert!(matches!(second, Accepted::New(_)) && second != first);
    rig.reopen(End::Dropped);
    assert_eq!(
        offer(rig, minute(120)),
        Accepted::Duplicate,
        "the second acceptance is what counts now"
    );
}

/// A5: memory for ids is bounded; what is lost is the oldest, never the newest.
pub(super) fn a5_past_the_bound_the_oldest_ids_go_first(rig: &mut Rig) {
    rig.begin(Settings {
        dedup_ids_max: 100,
        ..Settings::default()
    });
    let lane = rig.lane("one");
    for hundred in 0..4 {
        let line = (0..100)
            .map(|n| owed(event(&format!("{hundred}-{n}")), &[lane]))
            .collect();
        rig.accept_group(line, at(hundred));
    }
    assert!(rig.store().stats().dedup_ids <= 100);
    let newest = (50..100)
        .map(|n| owed(event(&format!("3-{n}")), &[lane]))
        .collect();
    assert_eq!(rig.accept_group(newest, at(4)), [Accepted::Duplicate; 50]);
    assert_eq!(rig.accept(&["0-0"], &[lane]).len(), 1);
}

/// A6: an event with `deliver_at` is owed but not due before.
pub(super) fn a6_a_delayed_event_waits_for_its_time(rig: &mut Rig) {
    let lane = rig.lane("one");
    let mut delayed = event("delayed");
    delayed.head.deliver_at = Some(at(5000));
    let line = vec![owed(delayed.clone(), &[lane]), owed(event("prompt"), &[lane])];
    let seqs = places(&rig.accept_group(line, T0));
    let before = rig.due(lane, at(4999));
    assert_eq!((before.fresh.len(), before.fresh[0].seq), (1, seqs[1]));
    assert_eq!((before.deferred, before.deferred_next), (vec![], Some(at(5000))));
    let after = rig.due(lane, at(5000));
    let due = after.deferred[0];
    assert_eq!(
        (due.seq, due.was_due, due.tries, after.deferred.len()),
        (seqs[0], Some(at(5000)), 0, 1)
    );
    assert_eq!(rig.store().load(&[seqs[0]]), [Ok(delayed)]);
    rig.settle(vec![crate::store::Settle {
        id: id(lane, seqs[0]),
        was_due: due.was_due,
        to: SettleTo::Settled,
    }]);
    assert_eq!((rig.deferred(lane), rig.fresh(lane)), (vec![], vec![seqs[1]]));
}

/// I5: the largest events are kept whole, alone and many in a commit, beside small ones.
pub(super) fn i5_bodies_of_1_mib_are_kept(rig: &mut Rig) {
    let lane = rig.lane("one");
    let body = |n: u64| {
        if n % 3 == 2 {
            noise(n, 700)
        } else {
            noise(n, (1 << 20) - n as usize)
        }
    };
    let line = (0..7).map(|n| {
        let mut event = event(&format!("large-{n}"));
        event.json = body(n);
        owed(event, &[lane])
    });
    let seqs = places(&rig.accept_group(line.collect(), T0));
    for (n, loaded) in (0..).zip(rig.store().load(&seqs)) {
        assert!(
            loaded.unwrap().json == body(n),
            "the body of event {n} is another"
        );
    }
    rig.settle(
        seqs[..5]
            .iter()
            .map(|seq| settle(lane, *seq, SettleTo::Settled))
            .collect(),
    );
    assert_eq!(rig.fresh(lane), seqs[5..]);
}

pub(super) fn missing_events_are_told_from_kept_ones(rig: &mut Rig) {
    let lane = rig.lane("one");
    let seqs = rig.accept(&["a", "b"], &[lane]);
    let never = Seq(seqs[1].0 + 1000);
    let loaded = rig.store().load(&[never, seqs[1], never, seqs[0]]);
    let missing = Err(LoadError::Missing(never));
    assert_eq!(
        loaded,
        [missing.clone(), Ok(event("b")), missing, Ok(event("a"))],
        "in the order asked for"
    );
    assert!(rig.store().load(&[]).is_empty());
    assert!(rig.store().load_cached(never).is_none());
}
