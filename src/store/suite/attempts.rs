//! What the log of attempts promises: every try is there, in order, until it is too old.

use std::time::Duration;

use super::rig::{Rig, at, event, evidence, tried};
use super::snapshot::all_attempts;
use crate::domain::delivery::DeadReason;
use crate::domain::event::Seq;
use crate::domain::outcome::{ErrorClass, Exchange, Outcome, OutcomeSet};
use crate::domain::time::Timestamp;
use crate::store::{AttemptEntry, AttemptFilter, LaneId, LoggedAttempt, NewAttempt};

fn log(rig: &mut Rig, tries: Vec<(LaneId, AttemptEntry)>, now: Timestamp) {
    let tries: Vec<NewAttempt> = tries
        .into_iter()
        .map(|(lane, entry)| NewAttempt {
            lane,
            entry: Box::new(entry),
        })
        .collect();
    rig.write(|store| {
        store.log_attempts(tries.clone(), now);
        Ok(())
    });
}

fn found(rig: &Rig, filter: &AttemptFilter) -> Vec<LoggedAttempt> {
    all_attempts(&*rig.store(), filter, 3)
}

/// A try that failed in every way that can be written down.
fn failed(event_id: &str, seq: Seq, started: Timestamp) -> AttemptEntry {
    let mut entry = tried(event_id, seq, started);
    let dead = evidence(&event(event_id), DeadReason::Rejected, started, 503);
    if let Some(last) = dead.last {
        entry.attempt = last;
        entry.attempt.started = started;
    }
    entry.batch = Some("batch".into());
    entry.exchange = Exchange {
        dns_us: Some(1_200),
        connect_us: Some(u64::MAX),
        tls_us: Some(9_000),
        reused: false,
        ..entry.exchange
    };
    entry
}

/// H1: every field of every try comes back, under the name of its endpoint, newest first.
pub(super) fn h1_tries_are_kept_in_full(rig: &mut Rig) {
    let (one, two) = (rig.lane("one"), rig.lane("two"));
    let first = vec![
        (one, tried("a", Seq(1), at(10))),
        (two, failed("b", Seq(u64::MAX), at(0))),
    ];
    let second = vec![(one, failed("a", Seq(1), at(7)))];
    log(rig, first.clone(), at(20));
    log(rig, second.clone(), at(30));
    log(rig, Vec::new(), at(40));
    let all = found(rig, &AttemptFilter::default());
    let shown: Vec<_> = all
        .iter()
        .map(|logged| (&*logged.endpoint, logged.entry.clone()))
        .collect();
    assert_eq!(
        shown,
        [
            ("one", second[0].1.clone()),
            ("two", first[1].1.clone()),
            ("one", first[0].1.clone())
        ]
    );
}

/// H1: pages of every size show each try once, also while new ones come in.
pub(super) fn h1_pages_go_on_where_the_last_one_ended(rig: &mut Rig) {
    let lane = rig.lane("one");
    for commit in 0..4 {
        let tries = (0..5).map(|n| (lane, tried(&format!("{commit}-{n}"), Seq(n), at(commit))));
        log(rig, tries.collect(), at(commit));
    }
    for limit in [1, 4, 19, 20, 21] {
        assert_eq!(
            all_attempts(&*rig.store(), &AttemptFilter::default(), limit).len(),
            20
        );
    }
    let page = rig.store().attempts(&AttemptFilter::default(), None, 7);
    log(rig, vec![(lane, tried("new", Seq(9), at(9)))], at(9));
    let next = rig.store().attempts(&AttemptFilter::default(), page.next, 7);
    let ids = |page: &[LoggedAttempt]| -> Vec<String> {
        page.iter()
            .map(|logged| logged.entry.event_id.to_string())
            .collect()
    };
    assert_eq!(
        ids(&page.attempts),
        ["3-4", "3-3", "3-2", "3-1", "3-0", "2-4", "2-3"]
    );
    assert_eq!(
        ids(&next.attempts),
        ["2-2", "2-1", "2-0", "1-4", "1-3", "1-2", "1-1"]
    );
}

/// H1: by endpoint, event, outcome, status and time.
pub(super) fn h1_every_filter_narrows(rig: &mut Rig) {
    let (one, two) = (rig.lane("one"), rig.lane("two"));
    let timeout = |mut entry: AttemptEntry| {
        entry.attempt.outcome = Outcome::Error(ErrorClass::Timeout);
        entry.attempt.status = None;
        entry
    };
    log(
        rig,
        vec![
            (one, tried("a", Seq(1), at(10))),
            (two, failed("a", Seq(1), at(11))),
        ],
        at(20),
    );
    log(rig, vec![(one, timeout(failed("b", Seq(2), at(12))))], at(21));
    let all = AttemptFilter::default();
    let only = |outcome| Some(OutcomeSet::default().with(outcome));
    for (filter, wanted) in [
        (all.clone(), &[12, 11, 10][..]),
        (
            AttemptFilter {
                endpoint: Some("one".into()),
                ..all.clone()
            },
            &[12, 10],
        ),
        (
            AttemptFilter {
                endpoint: Some("on".into()),
                ..all.clone()
            },
            &[],
        ),
        (
            AttemptFilter {
                event_id: Some("a".into()),
                ..all.clone()
            },
            &[11, 10],
        ),
        (
            AttemptFilter {
                outcomes: OutcomeSet::named("delivered"),
                ..all.clone()
            },
            &[10],
        ),
        (
            AttemptFilter {
                outcomes: OutcomeSet::named("error"),
                ..all.clone()
            },
            &[12, 11],
        ),
        (
            AttemptFilter {
                outcomes: only(Outcome::Error(ErrorClass::Timeout)),
                ..all.clone()
            },
            &[12],
        ),
        (
            AttemptFilter {
                status: Some(503),
                ..all.clone()
            },
            &[11],
        ),
        (
            AttemptFilter {
                since: Some(at(11)),
                ..all.clone()
            },
            &[12, 11],
        ),
        (
            AttemptFilter {
                until: Some(at(11)),
                ..all.clone()
            },
            &[10],
        ),
        (
            AttemptFilter {
                since: Some(at(11)),
                until: Some(at(12)),
                ..all.clone()
            },
            &[11],
        ),
        (
            AttemptFilter {
                since: Some(at(13)),
                ..all.clone()
            },
            &[],
        ),
    ] {
        let starts: Vec<u64> = found(rig, &filter)
            .iter()
            .map(|logged| logged.entry.attempt.started.0 - at(0).0)
            .collect();
        assert_eq!(starts, wanted, "{filter:?}");
    }
}

/// H1: tries go when all are older than they are kept, and not before; new ones go on being logged.
pub(super) fn h1_old_tries_go(rig: &mut Rig) {
    let lane = rig.lane("one");
    let keep = Duration::from_secs(7 * 86_400);
    log(rig, vec![(lane, tried("old", Seq(1), at(0)))], at(0));
    rig.write(|store| store.maintain(at(0).plus(keep), at(0)));
    assert_eq!(found(rig, &AttemptFilter::default()).len(), 1);
    let later = at(1).plus(keep);
    rig.write(|store| store.maintain(later, at(0)));
    assert_eq!(found(rig, &AttemptFilter::default()), []);
    log(rig, vec![(lane, tried("new", Seq(2), later))], later);
    assert_eq!(&*found(rig, &AttemptFilter::default())[0].entry.event_id, "new");
}

/// I5: whatever an endpoint says, a try takes up little room.
pub(super) fn h1_long_texts_are_cut(rig: &mut Rig) {
    let lane = rig.lane("one");
    let mut entry = failed("a", Seq(1), at(0));
    entry.attempt.message = "é".repeat(5000);
    entry.attempt.response_excerpt = "é".repeat(5000);
    entry.attempt.response_headers = vec![("x".into(), "y".repeat(500)); 9];
    log(rig, vec![(lane, entry)], at(0));
    let attempt = found(rig, &AttemptFilter::default()).remove(0).entry.attempt;
    assert_eq!(
        (
            attempt.message.len(),
            attempt.response_excerpt.len(),
            attempt.response_headers.len()
        ),
        (256, 1024, 2)
    );
}
