//! What [`Store::due`](crate::store::Store::due) promises: order, pages, what is held, what comes next.

use rustc_hash::FxHashSet;

use super::rig::{Rig, T0, ask_all, at, id, later, settle};
use crate::domain::event::Seq;
use crate::domain::time::Timestamp;
use crate::store::{DueAnswer, DueQuery, LaneId, Settle, SettleTo};

fn seqs(answer: &DueAnswer) -> (Vec<Seq>, Vec<Seq>) {
    let of = |list: &[crate::store::Due]| list.iter().map(|due| due.seq).collect();
    (of(&answer.fresh), of(&answer.deferred))
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("event-{n}")).collect()
}

/// `count` events owed to `lane`, each in a commit with up to four others.
fn backlog(rig: &mut Rig, lane: LaneId, count: usize) -> Vec<Seq> {
    let ids = ids(count);
    let mut seqs = Vec::new();
    for chunk in ids.chunks(5) {
        seqs.extend(rig.accept(&chunk.iter().map(String::as_str).collect::<Vec<_>>(), &[lane]));
    }
    seqs
}

/// Pages of `max` that together hold `expected`, whatever is settled behind the walker's back.
pub(super) fn fresh_deliveries_come_in_pages_in_order_of_acceptance(rig: &mut Rig) {
    let lane = rig.lane("one");
    let all = backlog(rig, lane, 23);
    for max in [1, 4, 23, 100] {
        let mut found = Vec::new();
        let mut query = DueQuery {
            fresh_max: max,
            ..ask_all()
        };
        loop {
            let answer = rig.store().due(lane, &query).unwrap();
            assert!(answer.fresh.len() <= max && answer.fresh_next >= query.fresh_from);
            found.extend(seqs(&answer).0);
            query.fresh_from = answer.fresh_next;
            if !answer.fresh_more {
                break;
            }
        }
        assert_eq!(found, all, "in pages of {max}");
    }
    let from = DueQuery {
        fresh_from: all[7],
        fresh_max: 3,
        ..ask_all()
    };
    assert_eq!(seqs(&rig.store().due(lane, &from).unwrap()).0, all[7..10]);
    rig.settle(
        all[..20]
            .iter()
            .map(|seq| settle(lane, *seq, SettleTo::Settled))
            .collect(),
    );
    assert_eq!(rig.fresh(lane), all[20..]);
}

pub(super) fn what_is_held_is_passed_over_and_not_counted(rig: &mut Rig) {
    let lane = rig.lane("one");
    let all = backlog(rig, lane, 12);
    let held: FxHashSet<Seq> = all[1..9].iter().copied().collect();
    let answer = rig
        .store()
        .due(
            lane,
            &DueQuery {
                fresh_max: 3,
                held,
                ..ask_all()
            },
        )
        .unwrap();
    assert_eq!(seqs(&answer).0, [all[0], all[9], all[10]]);
    assert!(
        answer.fresh_next > all[10] && answer.fresh_next <= all[11],
        "{answer:?}"
    );
    assert!(answer.fresh_more);
    let everything = DueQuery {
        held: all.iter().copied().collect(),
        ..ask_all()
    };
    let answer = rig.store().due(lane, &everything).unwrap();
    assert_eq!(
        (seqs(&answer), answer.fresh_more, answer.deferred_next),
        ((vec![], vec![]), false, None)
    );
}

/// Whoever reached the end goes on from `fresh_next` and misses nothing that comes later.
pub(super) fn an_event_accepted_after_the_last_page_is_on_the_next(rig: &mut Rig) {
    let lane = rig.lane("one");
    let mut from = Seq(0);
    for round in 0..4 {
        let answer = rig
            .store()
            .due(
                lane,
                &DueQuery {
                    fresh_from: from,
                    ..ask_all()
                },
            )
            .unwrap();
        assert!(
            !answer.fresh_more && answer.fresh.len() == usize::from(round > 0),
            "round {round}: {answer:?}"
        );
        from = answer.fresh_next;
        rig.accept(&[&format!("event-{round}")], &[lane]);
    }
}

/// Six events deferred so that the order of due times is not the order of acceptance.
fn deferred(rig: &mut Rig, lane: LaneId) -> Vec<Seq> {
    let all = backlog(rig, lane, 6);
    let dues = [500, 100, 300, 200, 600, 400];
    let moves = all
        .iter()
        .zip(dues)
        .map(|(seq, due)| settle(lane, *seq, SettleTo::Later(later(at(due), 1))));
    rig.settle(moves.collect());
    vec![all[1], all[3], all[2], all[5], all[0], all[4]]
}

pub(super) fn deferred_deliveries_come_in_order_of_due_time(rig: &mut Rig) {
    let lane = rig.lane("one");
    let by_due = deferred(rig, lane);
    for (now, max, given, next) in [
        (99, 10, 0, Some(100)),
        (100, 10, 1, Some(200)),
        (350, 10, 3, Some(400)),
        (350, 2, 2, Some(300)),
        (350, 0, 0, Some(100)),
        (600, 6, 6, None),
        (9999, 5, 5, Some(600)),
    ] {
        let query = DueQuery {
            now: at(now),
            deferred_max: max,
            ..ask_all()
        };
        let answer = rig.store().due(lane, &query).unwrap();
        let context = format!("at {now}, at most {max}");
        assert_eq!(seqs(&answer), (vec![], by_due[..given].to_vec()), "{context}");
        assert_eq!(answer.deferred_next, next.map(at), "{context}");
        assert!(
            answer
                .deferred
                .iter()
                .all(|due| due.tries == 1 && due.was_due.is_some()),
            "{context}"
        );
    }
}

pub(super) fn held_deferred_deliveries_do_not_count_as_next(rig: &mut Rig) {
    let lane = rig.lane("one");
    let by_due = deferred(rig, lane);
    let held: FxHashSet<Seq> = [by_due[0], by_due[2], by_due[3]].into_iter().collect();
    let query = DueQuery {
        now: at(350),
        deferred_max: 2,
        held,
        ..ask_all()
    };
    let answer = rig.store().due(lane, &query).unwrap();
    assert_eq!(
        (seqs(&answer).1, answer.deferred_next),
        (vec![by_due[1]], Some(at(500)))
    );
    let query = DueQuery {
        now: Timestamp::MAX,
        held: by_due.iter().copied().collect(),
        ..ask_all()
    };
    let answer = rig.store().due(lane, &query).unwrap();
    assert_eq!((seqs(&answer).1, answer.deferred_next), (vec![], None));
}

pub(super) fn a_lane_shows_nothing_of_another(rig: &mut Rig) {
    let (one, two, idle) = (rig.lane("one"), rig.lane("two"), rig.lane("idle"));
    let mine = rig.accept(&["a", "b"], &[one]);
    let theirs = rig.accept(&["c", "d"], &[two]);
    rig.settle(vec![settle(two, theirs[0], SettleTo::Later(later(at(100), 1)))]);
    rig.settle(vec![settle(idle, mine[0], SettleTo::Settled)]);
    let answer = rig.due(one, at(1000));
    assert_eq!((seqs(&answer), answer.deferred_next), ((mine, vec![]), None));
    assert_eq!(seqs(&rig.due(two, at(1000))), (vec![theirs[1]], vec![theirs[0]]));
    let nothing = rig.due(idle, at(1000));
    assert_eq!(
        (seqs(&nothing), nothing.fresh_more, nothing.deferred_next),
        ((vec![], vec![]), false, None)
    );
    let settled = Settle {
        id: id(two, theirs[0]),
        was_due: Some(at(100)),
        to: SettleTo::Settled,
    };
    rig.settle(vec![settled]);
    assert_eq!(rig.due(two, T0).deferred_next, None);
}

/// F7: an ordered lane has to know what may not be overtaken: everything that failed a try, also one that used none
/// up, but nothing that only waits for its time.
pub(super) fn f7_what_was_tried_is_told_whatever_its_due_time(rig: &mut Rig) {
    let lane = rig.lane("one");
    let all = backlog(rig, lane, 4);
    let delayed = accept_delayed(rig, lane, &["later"], at(50));
    let defer = |seq, ms, tries| settle(lane, seq, SettleTo::Later(later(at(ms), tries)));
    rig.settle(vec![
        defer(all[0], 900, 2),
        defer(all[1], 100, 0),
        defer(all[3], 500, 1),
    ]);
    for (max, held, expected) in [
        (9, &[][..], &[1, 3, 0][..]),
        (2, &[], &[1, 3]),
        (9, &[3], &[1, 0]),
        (0, &[], &[]),
    ] {
        let query = DueQuery {
            tried_max: max,
            deferred_max: 0,
            held: held.iter().map(|at| all[*at]).collect(),
            ..ask_all()
        };
        let told = rig.store().due(lane, &query).unwrap().tried;
        let told: Vec<Seq> = told.iter().map(|due| due.seq).collect();
        let expected: Vec<Seq> = expected.iter().map(|at| all[*at]).collect();
        assert_eq!(told, expected, "at most {max}");
        assert!(!told.contains(&delayed[0]));
    }
}

/// Events that are not to be delivered before `due`, all owed to `lane`.
fn accept_delayed(rig: &mut Rig, lane: LaneId, ids: &[&str], due: Timestamp) -> Vec<Seq> {
    let delayed = |id: &&str| {
        let mut event = super::rig::event(id);
        event.head.deliver_at = Some(due);
        super::rig::owed(event, &[lane])
    };
    let events = ids.iter().map(delayed).collect();
    super::rig::places(&rig.accept_group(events, T0))
}

/// A6: however many events wait for a day far off, an answer holds none of them, only when the first is due; when
/// that day comes they are given page by page.
pub(super) fn a6_many_far_future_events_cost_an_answer_nothing(rig: &mut Rig) {
    let lane = rig.lane("one");
    let ids = ids(5000);
    for (page, ids) in ids.chunks(1000).enumerate() {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        accept_delayed(rig, lane, &ids, at(1_000_000 + page as u64));
    }
    let now = rig.accept(&["now"], &[lane]);
    let ask = |now, max| {
        let query = DueQuery {
            now,
            deferred_max: max,
            ..ask_all()
        };
        rig.store().due(lane, &query).unwrap()
    };
    let answer = ask(at(999_999), 256);
    assert_eq!(seqs(&answer), (now, vec![]));
    assert_eq!(
        (answer.deferred_next, answer.fresh_more),
        (Some(at(1_000_000)), false)
    );
    let answer = ask(at(1_000_000), 256);
    assert_eq!(answer.deferred.len(), 256);
    assert_eq!(answer.deferred_next, Some(at(1_000_000)));
    assert_eq!(ask(Timestamp::MAX, usize::MAX).deferred.len(), 5000);
}
