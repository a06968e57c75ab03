//! The verifiers that other tests judge deliveries by can tell a good signature from a bad one, so that their `ok`
//! means something. What they verify here is signed by the official Rust crate.

#![allow(clippy::expect_used, reason = "a helper of a test may fail it")]

#[path = "../support/packages.rs"]
mod packages;
#[path = "../support/required.rs"]
mod required;
#[path = "../support/standard_webhooks.rs"]
mod verifiers;

use std::time::{SystemTime, UNIX_EPOCH};

use standardwebhooks::Webhook;
use verifiers::{Signed, Verifier};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const BODY: &[u8] = r#"{"type":"contact.created","data":{"name":"Zoë"}}"#.as_bytes();

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is after 1970");
    i64::try_from(since.as_secs()).expect("seconds fit")
}

fn signed(timestamp: i64, secrets: &[&str]) -> Signed {
    let sign = |secret: &&str| {
        let webhook = Webhook::new(secret).expect("a good secret");
        webhook.sign("msg_1", timestamp, BODY).expect("the body is text")
    };
    let signatures = secrets.iter().map(sign).collect::<Vec<_>>().join(" ");
    let headers = [
        ("webhook-id", "msg_1".to_owned()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signatures),
    ];
    Signed {
        secret: SECRET.to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        body: BODY.to_vec(),
    }
}

/// Requests, and whether each is to be believed.
fn requests() -> Vec<(&'static str, Signed, bool)> {
    let good = signed(now(), &[SECRET]);
    let mut changed_body = good.clone();
    changed_body.body[10] ^= 1;
    let mut changed_id = good.clone();
    changed_id.headers[0].1 = "msg_2".to_owned();
    let mut unsigned = good.clone();
    unsigned.headers.truncate(2);
    vec![
        ("good", good, true),
        (
            "two secrets while they rotate",
            signed(now(), &[OTHER_SECRET, SECRET]),
            true,
        ),
        ("another secret", signed(now(), &[OTHER_SECRET]), false),
        ("changed body", changed_body, false),
        ("changed id", changed_id, false),
        ("no signature", unsigned, false),
        ("ten minutes old", signed(now() - 600, &[SECRET]), false),
    ]
}

fn judge(verifier: Option<Verifier>) {
    let Some(verifier) = verifier else { return };
    let requests = requests();
    let verdicts = verifier.verdicts(
        &requests
            .iter()
            .map(|(_, signed, _)| signed.clone())
            .collect::<Vec<_>>(),
    );
    for ((what, _, good), verdict) in requests.iter().zip(&verdicts) {
        assert_eq!(verdict == "ok", *good, "{what}: {verdict}");
        assert!(
            verdict == "ok" || verdict.starts_with("bad "),
            "{what}: {verdict}"
        );
    }
}

/// D4
#[test]
fn d4_the_npm_verifier_tells_good_from_bad() {
    judge(Verifier::npm());
}

/// D4
#[test]
fn d4_the_pypi_verifier_tells_good_from_bad() {
    judge(Verifier::pypi());
}
