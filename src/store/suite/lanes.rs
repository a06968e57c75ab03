//! What lanes promise: names kept for ever, pauses, flushing, moving a backlog, and what people look up.

use super::End;
use super::rig::{Rig, T0, at, event, evidence, id, later, owed, places, settle, to_dead};
use crate::domain::delivery::DeadReason;
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::{
    DeadEvidence, DeliveryState, Due, LaneId, LaneTotals, LoadError, Pause, Settle, SettleTo,
};

fn totals(rig: &Rig, lane: LaneId) -> LaneTotals {
    rig.store()
        .lanes()
        .into_iter()
        .find(|totals| totals.lane == lane)
        .unwrap()
}

pub(super) fn a_name_keeps_its_lane(rig: &mut Rig) {
    assert!(rig.store().lanes().is_empty());
    let (one, two) = (rig.lane("one"), rig.lane("two"));
    assert_ne!(one, two);
    rig.reopen(End::Dropped);
    let three = rig.lane("three");
    assert_eq!((rig.lane("two"), rig.lane("one")), (two, one));
    assert!(three != one && three != two);
    let mut names: Vec<_> = rig
        .store()
        .lanes()
        .into_iter()
        .map(|lane| (lane.lane, lane.name.to_string()))
        .collect();
    names.sort_unstable();
    let mut expected =
        [(one, "one"), (two, "two"), (three, "three")].map(|(lane, name)| (lane, name.to_owned()));
    expected.sort_unstable();
    assert_eq!(names, expected);
}

/// B6: a paused lane keeps what it is owed, and its pause outlives the daemon.
pub(super) fn b6_a_pause_stays_until_it_is_lifted(rig: &mut Rig) {
    let (one, two) = (rig.lane("one"), rig.lane("two"));
    let pause = |reason: &str, until| {
        Some(Pause {
            by: "operator".into(),
            reason: reason.into(),
            since: at(1),
            until,
        })
    };
    for wanted in [
        pause("maintenance", None),
        pause("longer", Some(at(5000))),
        None,
        pause("again", None),
    ] {
        rig.write(|store| store.pause(one, wanted.clone()));
        let listed: Vec<_> = wanted.clone().into_iter().map(|pause| (one, pause)).collect();
        assert_eq!(rig.store().pauses(), listed);
        assert_eq!((totals(rig, one).paused, totals(rig, two).paused), (wanted, None));
        let ids = format!("event-{}", rig.fresh(one).len());
        rig.accept(&[&ids], &[one]);
    }
    assert_eq!(rig.fresh(one).len(), 4);
}

/// Records share pages of bounded size, so no text in them may be of any length.
pub(super) fn long_texts_are_cut(rig: &mut Rig) {
    let lane = rig.lane("one");
    let long = "é".repeat(100_000);
    let pause = Pause {
        by: long.as_str().into(),
        reason: long.as_str().into(),
        since: at(1),
        until: None,
    };
    rig.write(|store| store.pause(lane, Some(pause)));
    let (_, kept) = rig.store().pauses().remove(0);
    assert_eq!((kept.by.len(), kept.reason.len()), (1024, 1024));
    let seqs = rig.accept(&["later", "dead"], &[lane]);
    let mut deferral = later(at(500), 1);
    deferral.last_message = long.as_str().into();
    let mut letter = evidence(&event("dead"), DeadReason::Rejected, at(30), 400);
    letter.event_kind = long.as_str().into();
    if let Some(last) = &mut letter.last {
        last.message.clone_from(&long);
        last.request_line.clone_from(&long);
        last.response_excerpt.clone_from(&long);
        last.request_headers = vec![("a".into(), long.clone())];
        last.response_headers = vec![("a".into(), "b".into()); 100_000];
    }
    rig.settle(vec![
        settle(lane, seqs[0], SettleTo::Later(deferral)),
        settle(lane, seqs[1], SettleTo::Dead(letter)),
    ]);
    let deferral = rig.store().deferral(id(lane, seqs[0]), at(500)).unwrap().unwrap();
    assert_eq!(deferral.last_message.len(), 1024);
    let letter = rig.store().dead_letter(id(lane, seqs[1])).unwrap().unwrap();
    let bytes = crate::store::record::encode(&letter.evidence).unwrap().len();
    assert!(bytes < 16 << 10, "{bytes} bytes");
}

/// Every deferred delivery, revived ones too, becomes due, in pages of any size; tries and other lanes stay.
/// A6: an event that is not to be delivered yet is not.
pub(super) fn flush_makes_everything_deferred_due_now(rig: &mut Rig) {
    let (one, two, idle) = (rig.lane("one"), rig.lane("two"), rig.lane("idle"));
    let seqs = rig.accept(&["a", "b", "fresh", "revived"], &[one, two]);
    let mut delayed = event("delayed");
    delayed.head.deliver_at = Some(at(9000));
    let delayed = places(&rig.accept_group(vec![owed(delayed, &[one])], T0))[0];
    let retry = |lane, n: usize, due, tries| settle(lane, seqs[n], SettleTo::Later(later(at(due), tries)));
    let dead = settle(one, seqs[3], to_dead("revived"));
    rig.settle(vec![
        retry(one, 0, 700, 2),
        retry(one, 1, 600, 5),
        retry(two, 0, 700, 1),
        dead,
    ]);
    rig.write(|store| store.revive(&[(id(one, seqs[3]), at(8000))]));
    let page = rig.write(|store| store.flush_lane(one, at(100), None, 2));
    assert_eq!((page.moved, page.next.is_some()), (2, true));
    assert_eq!(rig.flush_lane(one, at(100), 1), 1, "one is left");
    let answer = rig.due(one, at(100));
    let mut found: Vec<_> = answer
        .deferred
        .iter()
        .map(|due| (due.seq, due.was_due, due.tries))
        .collect();
    found.sort_unstable();
    let now = Some(at(100));
    assert_eq!(found, [(seqs[0], now, 2), (seqs[1], now, 5), (seqs[3], now, 0)]);
    assert_eq!(
        (answer.deferred_next, rig.fresh(one)),
        (Some(at(9000)), vec![seqs[2]])
    );
    assert_eq!(rig.flush_lane(one, at(9000), 9), 0, "its time has come by itself");
    assert_eq!(rig.due(one, at(9000)).deferred.last().unwrap().seq, delayed);
    assert_eq!(
        rig.store().deferral(id(one, seqs[1]), at(100)),
        Ok(Some(later(at(100), 5)))
    );
    assert_eq!(rig.deferred(two), [Due::deferred(seqs[0], at(700), 1)]);
    assert_eq!(rig.flush_lane(idle, at(100), 9), 0);
}

/// A flush comes to an end, though every delivery that it makes due fails at once and is deferred again.
pub(super) fn a_flush_ends_while_its_deliveries_fail(rig: &mut Rig) {
    let lane = rig.lane("one");
    let seqs = rig.accept(&["a", "b", "c"], &[lane]);
    let fail = |due: u64, tries| {
        let again = |seq: &Seq| settle(lane, *seq, SettleTo::Later(later(at(due), tries)));
        seqs.iter().map(again).collect::<Vec<_>>()
    };
    rig.settle(fail(500, 1));
    let (mut from, mut pages) = (None, 0);
    loop {
        let page = rig.write(|store| store.flush_lane(lane, at(100), from, 2));
        pages += 1;
        let again = rig.deferred(lane).into_iter().map(|due| Settle {
            was_due: due.was_due,
            ..settle(lane, due.seq, SettleTo::Later(later(at(1000 * pages), 2)))
        });
        rig.settle(again.collect());
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(pages, 2);
}

/// Fresh deliveries move in order of acceptance, then deferred ones in order of due time, as many as asked
/// for; those whose event is not to be delivered yet wait in the new lane too.
pub(super) fn reassign_takes_deferred_deliveries_last(rig: &mut Rig) {
    let (from, to) = (rig.lane("from"), rig.lane("to"));
    let seqs = rig.accept(&["late", "soon", "fresh"], &[from]);
    let mut delayed = event("delayed");
    delayed.head.deliver_at = Some(at(700));
    let delayed = places(&rig.accept_group(vec![owed(delayed, &[from])], T0))[0];
    rig.settle(vec![
        settle(from, seqs[0], SettleTo::Later(later(at(900), 1))),
        settle(from, seqs[1], SettleTo::Later(later(at(600), 1))),
    ]);
    let order = [seqs[2], seqs[1], delayed, seqs[0]];
    for moved in 1..=order.len() {
        assert_eq!(rig.write(|store| store.reassign(from, to, 1, at(100))), 1);
        let mut there = rig.fresh(to);
        there.extend(rig.deferred(to).iter().map(|due| due.seq));
        there.sort_unstable();
        let mut wanted = order[..moved].to_vec();
        wanted.sort_unstable();
        assert_eq!(there, wanted);
    }
    assert_eq!(rig.deferred(to), [Due::deferred(delayed, at(700), 0)]);
}

/// Pending deliveries move in order of acceptance, as many as asked for; what the new lane is owed already
/// it is owed once; dead letters stay where they are.
pub(super) fn reassign_moves_the_oldest_first_and_owes_nothing_twice(rig: &mut Rig) {
    let (from, to) = (rig.lane("from"), rig.lane("to"));
    let first = rig.accept(&["a", "b"], &[from]);
    let both = rig.accept(&["both"], &[from, to])[0];
    let dead = rig.accept(&["dead"], &[from])[0];
    let mine = rig.accept(&["mine"], &[to])[0];
    let last = rig.accept(&["y", "z"], &[from]);
    rig.settle(vec![settle(from, dead, to_dead("dead"))]);
    assert_eq!(rig.write(|store| store.reassign(from, to, 3, at(100))), 3);
    assert_eq!(
        (rig.fresh(from), rig.fresh(to)),
        (last.clone(), vec![first[0], first[1], both, mine])
    );
    assert_eq!(rig.write(|store| store.reassign(from, to, 3, at(100))), 2);
    assert_eq!(
        (rig.fresh(from), rig.fresh(to)),
        (vec![], vec![first[0], first[1], both, mine, last[0], last[1]])
    );
    assert_eq!(rig.write(|store| store.reassign(from, to, 3, at(100))), 0);
    assert_eq!(rig.dead(), [id(from, dead)]);
    let all = rig.fresh(to);
    rig.settle(
        all.iter()
            .map(|seq| settle(to, *seq, SettleTo::Settled))
            .collect(),
    );
    let missing: Vec<_> = all.iter().map(|seq| Err(LoadError::Missing(*seq))).collect();
    assert_eq!(rig.store().load(&all), missing);
    assert_eq!(rig.store().load(&[dead]), [Ok(event("dead"))]);
}

/// The new endpoint starts with a whole budget: what the old one answered is no longer known, and nothing
/// of the old lane is left to become due.
pub(super) fn reassigned_deliveries_begin_anew(rig: &mut Rig) {
    let (from, to) = (rig.lane("from"), rig.lane("to"));
    let seqs = rig.accept(&["a", "b"], &[from]);
    rig.settle(vec![settle(from, seqs[0], SettleTo::Later(later(at(500), 4)))]);
    assert_eq!(rig.write(|store| store.reassign(from, to, 10, at(100))), 2);
    assert_eq!((rig.fresh(to), rig.deferred(to)), (seqs.clone(), vec![]));
    let old = rig.due(from, Timestamp::MAX);
    assert!(old.fresh.is_empty() && old.deferred.is_empty() && old.deferred_next.is_none());
    assert_eq!(rig.store().deferral(id(from, seqs[0]), at(500)), Ok(None));
    // The end of a request that was under way from the old lane finds nothing to end.
    rig.settle(vec![Settle {
        id: id(from, seqs[0]),
        was_due: Some(at(500)),
        to: SettleTo::Settled,
    }]);
    assert_eq!(rig.fresh(to), seqs);
}

/// Newest first, with the state of every delivery that is left.
pub(super) fn find_shows_every_delivery_an_event_still_has(rig: &mut Rig) {
    let lanes = ["fresh", "deferred", "dead", "settled"].map(|name| rig.lane(name));
    let old = rig.accept(&["a"], &lanes)[0];
    let mut other = event("a");
    other.head.source = "/other".into();
    let new = places(&rig.accept_group(
        vec![owed(event("b"), &lanes[..1]), owed(other.clone(), &lanes[..1])],
        T0,
    ))[1];
    let letter: Box<DeadEvidence> = evidence(&event("a"), DeadReason::Rejected, at(30), 400);
    rig.settle(vec![
        settle(lanes[1], old, SettleTo::Later(later(at(500), 2))),
        settle(lanes[2], old, SettleTo::Dead(letter.clone())),
        settle(lanes[3], old, SettleTo::Settled),
    ]);
    let mut found = rig.store().find("a", 10).unwrap();
    for event in &mut found {
        event.deliveries.sort_by_key(|(lane, _)| *lane);
    }
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].seq, &found[0].event), (new, &other));
    assert_eq!(found[0].deliveries, [(lanes[0], DeliveryState::Fresh)]);
    assert_eq!((found[1].seq, &found[1].event), (old, &event("a")));
    let mut expected = vec![
        (lanes[0], DeliveryState::Fresh),
        (lanes[1], DeliveryState::Deferred(later(at(500), 2))),
        (lanes[2], DeliveryState::Dead(letter)),
    ];
    expected.sort_by_key(|(lane, _)| *lane);
    assert_eq!(found[1].deliveries, expected);
    assert_eq!(rig.store().find("a", 1).unwrap().len(), 1);
    assert!(rig.store().find("never", 10).unwrap().is_empty());
}

/// Housekeeping between the moves of a backlog that drains shows in nothing that is owed.
pub(super) fn maintenance_changes_nothing_that_is_owed(rig: &mut Rig) {
    let lane = rig.lane("one");
    let mut left = Vec::new();
    for commit in 0..5 {
        let line = (0..60).map(|n| {
            let mut event = event(&format!("{commit}-{n}"));
            event.json = super::rig::noise(n, 3000);
            owed(event, &[lane])
        });
        left.extend(places(&rig.accept_group(line.collect(), T0)));
    }
    while left.len() > 1 {
        let (keep, go): (Vec<_>, Vec<_>) = left.iter().enumerate().partition(|(n, _)| n % 7 == 3);
        let settled = go
            .iter()
            .map(|(_, seq)| settle(lane, **seq, SettleTo::Settled))
            .collect();
        left = keep.into_iter().map(|(_, seq)| *seq).collect();
        rig.settle(settled);
        while rig.write(|store| store.maintain(at(1000), T0)).more {}
        assert_eq!(rig.fresh(lane), left);
    }
}
