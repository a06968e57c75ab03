use super::*;
use crate::domain::outcome::ErrorClass;
use crate::store::record::tests::{golden, golden_earlier, kept};

const T0: u64 = 1_736_937_000_000;

/// A try that delivered, of the n-th event.
pub(in crate::store::attempts) fn delivered(n: u64) -> NamedTry {
    let entry = AttemptEntry {
        seq: Seq(1_000_000 + n),
        event_id: format!("01JHM8WZ5T{n:016}").into(),
        event_source: "/local/www-data".into(),
        event_kind: "contact.created".into(),
        accepted: Timestamp(T0 + n),
        batch: None,
        attempt: Attempt {
            duration_ms: 31,
            status: Some(200),
            ..Attempt::new(1, Timestamp(T0 + n + 2), Outcome::Delivered)
        },
        exchange: Exchange {
            total_us: 31_000,
            reused: true,
            first_byte_us: Some(30_500),
            body_us: Some(20),
            sent_bytes: 1100,
            received_bytes: 17,
            ..Exchange::default()
        },
    };
    ("crm-sync".into(), Box::new(entry))
}

fn failed(n: u64, excerpt: usize) -> NamedTry {
    let (_, mut entry) = delivered(n);
    let AttemptEntry {
        attempt, exchange, ..
    } = *entry.clone();
    entry.attempt = Attempt {
        number: 3,
        outcome: Outcome::Error(ErrorClass::Http5xx),
        status: Some(503),
        message: "503 Service Unavailable".into(),
        request_line: "POST https://example.com/hook".into(),
        request_headers: vec![("content-type".into(), "application/json".into())],
        response_headers: vec![("retry-after".into(), "5".into())],
        response_excerpt: "x".repeat(excerpt),
        ..attempt
    };
    entry.exchange = Exchange {
        dns_us: Some(900),
        connect_us: Some(20_000),
        reused: false,
        ..exchange
    };
    entry.batch = Some("01JHM8WZ5T".into());
    // Accepted after the try began, as a clock that was set back shows it.
    entry.accepted = Timestamp(T0 + n + 50);
    ("billing".into(), entry)
}

#[test]
fn a_block_reads_as_each_version_wrote_it() {
    let mut tries = vec![delivered(0), failed(1, 5), delivered(2)];
    golden_earlier("attempts.v1", &build(77, tries.clone(), Detail::Failed));
    golden_earlier("attempts.v2", &build(77, tries.clone(), Detail::Failed));
    tries[2].1.attempt.kept = kept().if_any();
    golden_earlier("attempts-kept.v2", &build(77, tries.clone(), Detail::Failed));
    tries[1].1.exchange.tls_us = Some(9_000);
    golden("attempts.v3", &build(77, tries, Detail::Failed));
}

/// H1: everything comes back, and of a broken block nothing does.
#[test]
fn h1_tries_come_back_from_their_block() {
    let mut given = vec![delivered(5), failed(1, 5), delivered(2)];
    given[1].1.attempt.kept = kept().if_any();
    let bytes = frame(&build(77, given.clone(), Detail::Failed)).unwrap();
    let lengths = (length_of_first(&bytes), length_of_last(&bytes));
    assert_eq!(lengths, (Some(bytes.len()), Some(bytes.len())));
    let found = tries(open(&bytes).unwrap()).unwrap();
    let wanted = (77..)
        .zip(given)
        .map(|(number, (endpoint, entry))| LoggedAttempt {
            number,
            endpoint: (*endpoint).into(),
            entry: *entry,
        });
    assert_eq!(found, wanted.collect::<Vec<_>>());
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert_eq!(open(&damaged), None, "byte {at}");
        assert_eq!(open(&bytes[..at]), None, "cut off at {at}");
    }
}

/// H1: a try that delivered is cheap to keep.
#[test]
fn h1_a_delivered_try_takes_less_than_100_bytes() {
    let alone = frame(&build(1, vec![delivered(0)], Detail::Failed))
        .unwrap()
        .len();
    let many = frame(&build(1, (0..200).map(delivered).collect(), Detail::Failed))
        .unwrap()
        .len()
        / 200;
    assert!(many < 65 && alone < 160, "{many} among many, {alone} alone");
}

/// As many tries as a block may have, which failed each with words of its own.
fn all_failed() -> Vec<NamedTry> {
    let failed = |n| {
        let (endpoint, mut entry) = failed(n, 1000);
        entry.attempt.request_line = format!("POST https://example.com/hook{n:04}");
        (endpoint, entry)
    };
    (0..TRIES_MAX as u64).map(failed).collect()
}

/// H1: where what was said is wanted of all, none goes without it, and a block stays within its bound.
#[test]
fn h1_every_try_keeps_what_was_said_if_that_is_wanted() {
    let mut given = all_failed();
    for (_, entry) in &mut given {
        entry.attempt.outcome = Outcome::Delivered;
        entry.attempt.response_excerpt = "x".repeat(4000);
    }
    let count = fitting(&given, Detail::All);
    assert!((200..300).contains(&count), "{count}");
    given.truncate(count);
    let bytes = frame(&build(1, given.clone(), Detail::All)).unwrap();
    assert!(bytes.len() < WHOLE_BYTES_MAX * 11 / 10, "{}", bytes.len());
    let found = tries(open(&bytes).unwrap()).unwrap();
    let found: Vec<_> = found.into_iter().map(|logged| logged.entry).collect();
    assert!(given.iter().map(|(_, entry)| &**entry).eq(&found));

    let huge = "x".repeat(WHOLE_BYTES_MAX + 1);
    given[0].1.attempt.response_excerpt = huge;
    assert_eq!(fitting(&given, Detail::All), 1, "there is always a next block");
    assert_eq!(fitting(&given, Detail::Failed), count);
}

/// H1: what was said in one request stands once for all of its events.
#[test]
fn h1_a_batch_keeps_its_request_once() {
    let batch = (0..100).map(|n| failed(n, 3000)).collect();
    let bytes = frame(&build(1, batch, Detail::Failed)).unwrap();
    assert!(bytes.len() < 3000 + 100 * 100, "{}", bytes.len());
    let found = tries(open(&bytes).unwrap()).unwrap();
    assert!(
        found
            .iter()
            .all(|logged| logged.entry.attempt.response_excerpt.len() == 3000)
    );
}

#[test]
fn the_first_failures_keep_what_was_said_and_all_keep_their_numbers() {
    let bytes = frame(&build(1, all_failed(), Detail::Failed)).unwrap();
    assert!(bytes.len() < 3 * EVIDENCE_BYTES_MAX, "{}", bytes.len());
    let found = tries(open(&bytes).unwrap()).unwrap();
    let whole = found
        .iter()
        .filter(|a| !a.entry.attempt.response_excerpt.is_empty());
    assert_eq!(whole.count(), EVIDENCE_BYTES_MAX / 1085);
    assert!(
        found
            .iter()
            .all(|a| a.entry.attempt.message == "503 Service Unavailable")
    );
}

#[test]
fn what_cannot_match_is_passed_over_unread() {
    let bytes = frame(&build(1, vec![delivered(0), failed(7, 5)], Detail::Failed)).unwrap();
    let record = open(&bytes).unwrap();
    let head = head(record).unwrap();
    assert_eq!(
        (head.earliest_ms, head.latest_ms, head.count),
        (T0 + 2, T0 + 9, 2)
    );
    let all = AttemptFilter::default();
    let named = |name| OutcomeSet::named(name);
    for (filter, wanted) in [
        (all.clone(), true),
        (
            AttemptFilter {
                outcomes: named("error"),
                ..all.clone()
            },
            true,
        ),
        (
            AttemptFilter {
                outcomes: named("rejected"),
                ..all.clone()
            },
            false,
        ),
        (
            AttemptFilter {
                since: Some(Timestamp(T0 + 9)),
                ..all.clone()
            },
            true,
        ),
        (
            AttemptFilter {
                since: Some(Timestamp(T0 + 10)),
                ..all.clone()
            },
            false,
        ),
        (
            AttemptFilter {
                until: Some(Timestamp(T0 + 2)),
                ..all.clone()
            },
            false,
        ),
        (
            AttemptFilter {
                event_id: Some(delivered(0).1.event_id),
                ..all.clone()
            },
            true,
        ),
        (
            AttemptFilter {
                event_id: Some(delivered(1).1.event_id),
                ..all.clone()
            },
            false,
        ),
        (
            AttemptFilter {
                endpoint: Some("crm".into()),
                ..all.clone()
            },
            true,
        ),
        (
            AttemptFilter {
                endpoint: Some("erp".into()),
                ..all.clone()
            },
            false,
        ),
    ] {
        assert_eq!(may_match(record, &head, &filter), wanted, "{filter:?}");
    }
}
