//! What the dead letters promise: evidence kept, pages and filters, back to life or gone for good.

use super::rig::{Rig, T0, at, event, evidence, id, later, owed, places, settle, to_dead};
use crate::domain::delivery::DeadReason;
use crate::domain::event::Seq;
use crate::domain::route::TypePattern;
use crate::domain::time::Timestamp;
use crate::store::{DeadFilter, DeadLetter, DeliveryId, Due, LaneId, LoadError, Settle, SettleTo};

/// Makes dead letters of new events in `lane`, one for each of `ids`.
fn dead_letters(rig: &mut Rig, lane: LaneId, ids: &[&str]) -> Vec<DeliveryId> {
    let seqs = rig.accept(ids, &[lane]);
    rig.settle(
        seqs.iter()
            .zip(ids)
            .map(|(seq, event_id)| settle(lane, *seq, to_dead(event_id)))
            .collect(),
    );
    seqs.iter().map(|seq| id(lane, *seq)).collect()
}

/// G1: reason, attempt with headers and excerpt, and the event itself, up to the bounds of each.
pub(super) fn g1_evidence_is_kept_in_full(rig: &mut Rig) {
    let lane = rig.lane("one");
    let seqs = rig.accept(&["tried", "large", "never-tried"], &[lane]);
    let tried = evidence(&event("tried"), DeadReason::NotRetried, at(40), 404);
    let mut large = evidence(&event("large"), DeadReason::MaxAge, at(41), 500);
    if let Some(last) = &mut large.last {
        last.response_excerpt = "x".repeat(crate::domain::outcome::EXCERPT_BYTES_MAX);
        last.request_headers = (0..80).map(|n| (format!("x-{n}"), "v".repeat(40))).collect();
    }
    let mut never = evidence(&event("never-tried"), DeadReason::Orphaned, at(42), 0);
    (never.first_attempt, never.last, never.tries) = (None, None, 0);
    let letters = [tried, large, never];
    let moves = seqs
        .iter()
        .zip(&letters)
        .map(|(seq, letter)| settle(lane, *seq, SettleTo::Dead(letter.clone())));
    rig.settle(moves.collect());
    for (seq, letter) in seqs.iter().zip(letters) {
        let id = id(lane, *seq);
        assert_eq!(
            rig.store().dead_letter(id),
            Ok(Some(DeadLetter {
                id,
                evidence: *letter
            }))
        );
    }
    assert_eq!(rig.store().load(&[seqs[0]]), [Ok(event("tried"))]);
    assert_eq!(rig.store().dead_letter(id(lane, Seq(seqs[2].0 + 9))), Ok(None));
    assert!(rig.fresh(lane).is_empty() && rig.deferred(lane).is_empty());
}

/// G1: bounded by age; what is younger, and what is not dead, stays.
pub(super) fn g1_old_dead_letters_expire(rig: &mut Rig) {
    let lane = rig.lane("one");
    let seqs = rig.accept(&["a", "b", "c", "pending"], &[lane]);
    let dead = |since| SettleTo::Dead(evidence(&event("x"), DeadReason::MaxAge, at(since), 500));
    rig.settle(
        seqs.iter()
            .zip([100, 200, 300])
            .map(|(seq, since)| settle(lane, *seq, dead(since)))
            .collect(),
    );
    while rig.write(|store| store.maintain(at(1000), at(200))).more {}
    assert_eq!(rig.dead(), [id(lane, seqs[1]), id(lane, seqs[2])]);
    while rig.write(|store| store.maintain(at(1000), Timestamp::MAX)).more {}
    assert!(rig.dead().is_empty());
    assert_eq!(rig.store().load(&[seqs[0]]), [Err(LoadError::Missing(seqs[0]))]);
    assert_eq!(rig.fresh(lane), [seqs[3]]);
}

/// G2: in order of lane and acceptance, each letter on exactly one page.
pub(super) fn g2_pages_go_on_where_the_last_one_ended(rig: &mut Rig) {
    let (one, two) = (rig.lane("one"), rig.lane("two"));
    let mut all = dead_letters(rig, two, &["a", "b", "c"]);
    all.extend(dead_letters(rig, one, &["d", "e"]));
    all.extend(dead_letters(rig, two, &["f", "g"]));
    all.sort_unstable();
    for (filter, expected) in [
        (DeadFilter::default(), all.clone()),
        (
            DeadFilter {
                lane: Some(two),
                ..DeadFilter::default()
            },
            all.iter().copied().filter(|id| id.lane == two).collect(),
        ),
    ] {
        for limit in [1, 2, 3, 100] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = rig.store().dead(&filter, after, limit).unwrap();
                assert!(page.letters.len() <= limit);
                found.extend(page.letters.iter().map(|letter| letter.id));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "in pages of {limit}");
        }
    }
    // The letter a cursor names may be gone by the time it is used.
    let page = rig.store().dead(&DeadFilter::default(), None, 2).unwrap();
    rig.write(|store| store.discard(&all[..3]));
    let rest = rig.store().dead(&DeadFilter::default(), page.next, 100).unwrap();
    assert_eq!(
        rest.letters.iter().map(|letter| letter.id).collect::<Vec<_>>(),
        all[3..]
    );
}

/// G2: lane, type, reason, status and both ends of the time, alone and together.
pub(super) fn g2_every_filter_narrows(rig: &mut Rig) {
    let lanes = [rig.lane("one"), rig.lane("two")];
    let kinds = ["contact.created", "contact.updated", "order.paid", "order.paid"];
    let reasons = [
        DeadReason::NotRetried,
        DeadReason::MaxAttempts,
        DeadReason::Rejected,
        DeadReason::MaxAttempts,
    ];
    let mut letters = Vec::new();
    for n in 0..4 {
        let mut event = event(&format!("event-{n}"));
        event.head.kind = kinds[n].into();
        let lane = lanes[n % 2];
        let seq = places(&rig.accept_group(vec![owed(event.clone(), &[lane])], T0))[0];
        let status = if n == 2 { 404 } else { 503 };
        let evidence = evidence(&event, reasons[n], at(100 * n as u64), status);
        rig.settle(vec![settle(lane, seq, SettleTo::Dead(evidence))]);
        letters.push(id(lane, seq));
    }
    let none = DeadFilter::default();
    let kind = |text: &str| Some(TypePattern::parse(text).unwrap());
    for (filter, expected) in [
        (none.clone(), vec![0, 1, 2, 3]),
        (
            DeadFilter {
                lane: Some(lanes[1]),
                ..none.clone()
            },
            vec![1, 3],
        ),
        (
            DeadFilter {
                kind: kind("contact.*"),
                ..none.clone()
            },
            vec![0, 1],
        ),
        (
            DeadFilter {
                kind: kind("order.paid"),
                ..none.clone()
            },
            vec![2, 3],
        ),
        (
            DeadFilter {
                reason: Some(DeadReason::MaxAttempts),
                ..none.clone()
            },
            vec![1, 3],
        ),
        (
            DeadFilter {
                status: Some(404),
                ..none.clone()
            },
            vec![2],
        ),
        (
            DeadFilter {
                since: Some(at(100)),
                until: Some(at(300)),
                ..none.clone()
            },
            vec![1, 2],
        ),
        (
            DeadFilter {
                lane: Some(lanes[1]),
                kind: kind("order.**"),
                status: Some(503),
                ..none.clone()
            },
            vec![3],
        ),
        (
            DeadFilter {
                status: Some(200),
                ..none
            },
            vec![],
        ),
    ] {
        let page = rig.store().dead(&filter, None, 100).unwrap();
        let mut expected: Vec<DeliveryId> = expected.into_iter().map(|n| letters[n]).collect();
        expected.sort_unstable();
        assert_eq!(
            page.letters.iter().map(|letter| letter.id).collect::<Vec<_>>(),
            expected,
            "{filter:?}"
        );
        assert_eq!(page.next, None, "{filter:?}");
    }
}

/// G2: revived deliveries are due when asked for, with no try used, and can go anywhere from there; what
/// is not dead is passed over.
pub(super) fn g2_revived_deliveries_have_their_whole_budget(rig: &mut Rig) {
    let lane = rig.lane("one");
    let dead = dead_letters(rig, lane, &["a", "b", "c"]);
    let pending = id(lane, rig.accept(&["pending"], &[lane])[0]);
    let unknown = id(lane, Seq(pending.seq.0 + 50));
    let asked = [
        (dead[1], at(300)),
        (pending, at(1)),
        (dead[0], at(500)),
        (unknown, at(1)),
        (dead[1], at(999)),
    ];
    assert_eq!(rig.write(|store| store.revive(&asked)), [dead[1], dead[0]]);
    let due = |id: DeliveryId, due| Due::deferred(id.seq, due, 0);
    assert_eq!(rig.deferred(lane), [due(dead[1], at(300)), due(dead[0], at(500))]);
    assert_eq!(rig.due(lane, at(300)).deferred_next, Some(at(500)));
    assert_eq!((rig.dead(), rig.fresh(lane)), (vec![dead[2]], vec![pending.seq]));
    assert!(rig.write(|store| store.revive(&asked[..3])).is_empty());
    let moved = |id, was_due, to| Settle {
        id,
        was_due: Some(was_due),
        to,
    };
    rig.settle(vec![
        moved(dead[1], at(300), SettleTo::Later(later(at(700), 1))),
        moved(dead[0], at(500), to_dead("a")),
    ]);
    assert_eq!(rig.deferred(lane), [Due::deferred(dead[1].seq, at(700), 1)]);
    assert_eq!(rig.dead(), [dead[0], dead[2]]);
    assert_eq!(rig.write(|store| store.revive(&[(dead[0], at(800))])), [dead[0]]);
    rig.settle(vec![moved(dead[0], at(800), SettleTo::Settled)]);
    assert_eq!(
        rig.store().load(&[dead[0].seq]),
        [Err(LoadError::Missing(dead[0].seq))]
    );
}

/// G2: purging takes the letter and, with nothing else owed, the event.
pub(super) fn g2_discarded_letters_are_gone(rig: &mut Rig) {
    let (one, two) = (rig.lane("one"), rig.lane("two"));
    let dead = dead_letters(rig, one, &["a", "b", "c"]);
    let shared = rig.accept(&["shared"], &[one, two])[0];
    rig.settle(vec![settle(one, shared, to_dead("shared"))]);
    let asked = [
        dead[0],
        dead[2],
        dead[0],
        id(two, shared),
        id(one, Seq(shared.0 + 9)),
        id(one, shared),
    ];
    assert_eq!(rig.write(|store| store.discard(&asked)), 3);
    assert_eq!(rig.dead(), [dead[1]]);
    let loaded = rig.store().load(&[dead[0].seq, dead[1].seq, shared]);
    assert_eq!(
        loaded,
        [
            Err(LoadError::Missing(dead[0].seq)),
            Ok(event("b")),
            Ok(event("shared"))
        ]
    );
    assert_eq!(rig.fresh(two), [shared]);
    assert_eq!(rig.write(|store| store.discard(&asked)), 0);
}
