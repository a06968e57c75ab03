//! What settling promises: each move is whole, can be repeated, and touches nothing else.

use super::rig::{Rig, T0, at, event, id, later, owed, places, settle, to_dead};
use crate::domain::event::Seq;
use crate::domain::outcome::ErrorClass;
use crate::domain::time::Timestamp;
use crate::store::{DeadFilter, Deferral, Due, LaneId, LoadError, Settle, SettleTo};

fn was_due(lane: LaneId, seq: Seq, due: Timestamp, to: SettleTo) -> Settle {
    Settle {
        id: id(lane, seq),
        was_due: Some(due),
        to,
    }
}

pub(super) fn settled_deliveries_are_gone(rig: &mut Rig) {
    let lane = rig.lane("one");
    let seqs = rig.accept(&["a", "b", "c"], &[lane]);
    rig.settle(vec![settle(lane, seqs[1], SettleTo::Settled)]);
    assert_eq!(rig.fresh(lane), [seqs[0], seqs[2]]);
    assert_eq!(rig.store().load(&[seqs[1]]), [Err(LoadError::Missing(seqs[1]))]);
    assert!(rig.store().find("b", 10).unwrap().is_empty());
}

/// F1: every field of a deferral comes back, the next one replaces it, and none is left after the last.
pub(super) fn f1_a_deferral_is_kept_in_full_and_replaced_whole(rig: &mut Rig) {
    let lane = rig.lane("one");
    let seq = rig.accept(&["a"], &[lane])[0];
    let first = later(at(500), 1);
    let second = Deferral {
        due: at(400),
        tries: 2,
        first_attempt: at(10),
        last_attempt: at(501),
        last_status: None,
        last_class: Some(ErrorClass::Timeout),
        last_message: "é".repeat(100).into(),
    };
    let mut due = None;
    for deferral in [first, second] {
        rig.settle(vec![Settle {
            id: id(lane, seq),
            was_due: due,
            to: SettleTo::Later(deferral.clone()),
        }]);
        due = Some(deferral.due);
        assert_eq!(
            rig.deferred(lane),
            [Due::deferred(seq, due.unwrap(), deferral.tries)]
        );
        assert_eq!(
            rig.store().deferral(id(lane, seq), deferral.due),
            Ok(Some(deferral))
        );
        assert!(rig.fresh(lane).is_empty());
    }
    rig.settle(vec![was_due(lane, seq, at(400), SettleTo::Settled)]);
    assert_eq!(rig.store().deferral(id(lane, seq), at(400)), Ok(None));
    assert!(rig.deferred(lane).is_empty());
}

/// What is settled, dead, owed to another or unknown is left as it is, in one commit and across commits.
pub(super) fn settling_what_is_not_owed_does_nothing(rig: &mut Rig) {
    let (one, two) = (rig.lane("one"), rig.lane("two"));
    let seqs = rig.accept(&["a", "b", "c"], &[one]);
    let all = vec![
        settle(one, seqs[0], SettleTo::Settled),
        settle(one, seqs[0], to_dead("a")),
        settle(one, seqs[1], to_dead("b")),
        settle(one, seqs[1], SettleTo::Settled),
        settle(one, seqs[1], SettleTo::Later(later(at(50), 1))),
        settle(two, seqs[2], to_dead("c")),
        settle(two, seqs[2], SettleTo::Later(later(at(50), 1))),
        settle(one, Seq(seqs[2].0 + 500), to_dead("unknown")),
        settle(LaneId(77), seqs[2], SettleTo::Settled),
        was_due(one, seqs[0], at(50), SettleTo::Later(later(at(60), 2))),
    ];
    for settles in [all.clone(), all.clone(), all.into_iter().rev().collect()] {
        rig.settle(settles);
        assert_eq!(rig.fresh(one), [seqs[2]]);
        assert!(rig.deferred(one).is_empty() && rig.fresh(two).is_empty() && rig.deferred(two).is_empty());
        assert_eq!(rig.dead(), [id(one, seqs[1])]);
    }
}

/// A delivery may be under way while an operator makes its lane due: its end still ends it.
pub(super) fn a_settle_that_crosses_a_flush_still_counts(rig: &mut Rig) {
    let lane = rig.lane("one");
    let seqs = rig.accept(&["a", "b", "c"], &[lane]);
    rig.settle(
        seqs.iter()
            .map(|seq| settle(lane, *seq, SettleTo::Later(later(at(500), 1))))
            .collect(),
    );
    rig.flush_lane(lane, at(100), 10);
    rig.settle(vec![
        was_due(lane, seqs[0], at(500), SettleTo::Settled),
        was_due(lane, seqs[1], at(500), to_dead("b")),
        was_due(lane, seqs[2], at(500), SettleTo::Later(later(at(900), 2))),
    ]);
    assert_eq!(rig.deferred(lane), [Due::deferred(seqs[2], at(900), 2)]);
    assert_eq!(rig.dead(), [id(lane, seqs[1])]);
}

/// A backlog of many commits settles from both ends, in the middle, in bulk, to every place there is.
pub(super) fn a_backlog_settles_in_any_order(rig: &mut Rig) {
    let lanes = [rig.lane("one"), rig.lane("two")];
    let mut seqs = Vec::new();
    for commit in 0..4 {
        let line = (0..50)
            .map(|n| owed(event(&format!("{commit}-{n}")), &lanes))
            .collect();
        seqs.extend(places(&rig.accept_group(line, at(commit))));
    }
    let to = |n: usize| match n % 4 {
        0 => SettleTo::Later(later(at(n as u64), 1)),
        1 => to_dead("any"),
        _ => SettleTo::Settled,
    };
    // Every place once, far from the one before: 77 and 200 have no common divisor.
    let order: Vec<usize> = (0..200).map(|n| n * 77 % 200).collect();
    for some in order.chunks(40) {
        rig.settle(some.iter().map(|n| settle(lanes[0], seqs[*n], to(*n))).collect());
    }
    let (fresh, deferred) = (rig.fresh(lanes[0]), rig.deferred(lanes[0]));
    assert!(fresh.is_empty());
    assert_eq!(
        deferred.iter().map(|due| due.seq).collect::<Vec<_>>(),
        seqs.iter().copied().step_by(4).collect::<Vec<_>>()
    );
    assert_eq!(rig.dead().len(), 50);
    assert_eq!(rig.fresh(lanes[1]), seqs);
    let rest = deferred
        .iter()
        .map(|due| was_due(lanes[0], due.seq, due.was_due.unwrap(), SettleTo::Settled));
    let other = seqs.iter().map(|seq| settle(lanes[1], *seq, SettleTo::Settled));
    rig.settle(rest.chain(other).collect());
    let letters = rig
        .store()
        .dead(&DeadFilter::default(), None, 1000)
        .unwrap()
        .letters;
    assert_eq!(letters.len(), 50);
    assert!(rig.due(lanes[0], T0).deferred_next.is_none() && rig.fresh(lanes[1]).is_empty());
}
