//! D4: signatures of requests that the built daemon really sends, judged by the libraries that receivers use.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::servers::Target;
use crate::harness::{Daemon, endpoint, event};
use crate::signature_verifiers::{Signed, verdicts};

/// The seed of an Ed25519 key, and the public key that belongs to it.
fn key_pair() -> ([u8; 32], Vec<u8>) {
    let seed = [42; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
    (seed, pair.public_key().as_ref().to_vec())
}

/// Each scheme: more lines of its table, the secrets it signs with, and what the receiver knows.
fn schemes() -> Vec<(&'static str, &'static str, Vec<String>, String)> {
    let (seed, public) = key_pair();
    let private = || vec![format!("whsk_{}", STANDARD.encode(seed))];
    let texts = || vec!["s3cret".to_owned(), "0ld".to_owned()];
    let hex: String = public.iter().map(|byte| format!("{byte:02x}")).collect();
    let custom = "algorithm = \"sha512\"\nencoding = \"base64\"\nheader = \"X-Custom\"\ntimestamp_header = \"X-Custom-Time\"\n\
                  timestamp = \"rfc3339\"\ncontent = \"{{ timestamp_iso }}\\n{{ body }}\"";
    vec![
        (
            "standard-ed25519",
            "",
            private(),
            format!("whpk_{}", STANDARD.encode(&public)),
        ),
        ("discord", "", private(), hex),
        ("github", "", texts(), "s3cret".to_owned()),
        (
            "stripe",
            "",
            vec!["whsec_new".to_owned(), "s3cret".to_owned()],
            "s3cret".to_owned(),
        ),
        ("shopify", "", texts(), "s3cret".to_owned()),
        ("slack", "", texts(), "s3cret".to_owned()),
        ("timestamped", "", texts(), "s3cret".to_owned()),
        ("canonical", "", texts(), "s3cret".to_owned()),
        ("webhook", "", texts(), "s3cret".to_owned()),
        ("custom", custom, texts(), "s3cret".to_owned()),
    ]
}

/// D4, D5: each verifier believes what was sent, and neither another body nor another secret.
#[test]
fn d4_other_peoples_verifiers_believe_what_is_sent() {
    let mut target = Target::new();
    // What Shopify's library wants to see besides the signature.
    let headers = "headers = { X-Shopify-Topic = \"a/b\", X-Shopify-API-Version = \"2025-07\", \
                   X-Shopify-Shop-Domain = \"a.myshopify.com\", X-Shopify-Webhook-Id = \"1\" }";
    let schemes = schemes();
    let text: String = schemes
        .iter()
        .map(|(scheme, lines, secrets, _)| {
            let sign = format!("[[endpoint.sign]]\nscheme = \"{scheme}\"\nsecrets = {secrets:?}\n{lines}");
            endpoint(
                scheme,
                &target.url(&format!("/{scheme}?x=1")),
                &format!("{headers}\n{sign}"),
            )
        })
        .collect();
    let daemon = Daemon::start(&text);
    daemon.accept(&event("contact.created", "Zoë"));
    let mut requests: Vec<Signed> = Vec::new();
    for received in target.take(schemes.len()) {
        let (scheme, _, _, secret) = schemes
            .iter()
            .find(|(scheme, ..)| received.path.starts_with(&format!("/{scheme}?")))
            .expect("one of ours");
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        };
        requests.push(Signed {
            scheme: (*scheme).to_owned(),
            secret: secret.clone(),
            method: received.method.to_string(),
            url: received.path.clone(),
            headers: received.headers.iter().map(header).collect(),
            body: received.body.to_vec(),
        });
    }
    let good = requests.len();
    for request in requests.clone() {
        let mut changed = request.clone();
        *changed.body.last_mut().expect("a body") = b' ';
        let secret = match request.scheme.as_str() {
            "standard-ed25519" => format!("whpk_{}", STANDARD.encode(other_public_key())),
            "discord" => other_public_key()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            _ => "an0ther".to_owned(),
        };
        requests.extend([changed, Signed { secret, ..request }]);
    }
    let Some(verdicts) = verdicts(&requests) else {
        return;
    };
    for (index, (request, verdict)) in requests.iter().zip(verdicts).enumerate() {
        let expected = if index < good { "ok" } else { "bad " };
        assert!(
            verdict.starts_with(expected),
            "{}: {verdict}; {request:?}",
            request.scheme
        );
    }
}

fn other_public_key() -> Vec<u8> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any 32 bytes are a seed");
    pair.public_key().as_ref().to_vec()
}

/// H4, D4: the receiver for development verifies other schemes than the standard's, by secret or public key, and says so.
#[test]
fn h4_d4_the_receiver_verifies_by_scheme() {
    let (seed, public) = key_pair();
    let private = format!("whsk_{}", STANDARD.encode(seed));
    let public = format!("whpk_{}", STANDARD.encode(public));
    for (scheme, asked, secret, known, verdict) in [
        (
            "standard-ed25519",
            "standard",
            &*private,
            &*public,
            "verified: standard-ed25519, secret 2",
        ),
        (
            "github",
            "github",
            "s3cret",
            "s3cret",
            "verified: github, secret 2",
        ),
        (
            "canonical",
            "canonical",
            "s3cret",
            "s3cret",
            "verified: canonical, secret 2",
        ),
        (
            "webhook",
            "webhook",
            "s3cret",
            "another",
            "wrong: made with another secret",
        ),
        (
            "stripe",
            "slack",
            "s3cret",
            "s3cret",
            "missing: there is no x-slack-signature header",
        ),
    ] {
        let first = if asked == "standard" {
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        } else {
            "0ld"
        };
        let mut receiver = Command::new(env!("CARGO_BIN_EXE_posthaste"))
            .args(["receive", "--listen", "127.0.0.1:0", "--scheme", asked])
            .args(["--secret", first, "--secret", known])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut shown = BufReader::new(receiver.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let address = shown.next().unwrap().split_once("http://").unwrap().1.to_owned();
        let sign = format!("sign = [{{ scheme = \"{scheme}\", secrets = [\"{secret}\"] }}]");
        let daemon = Daemon::start(&endpoint("crm", &format!("http://{address}/hook?a=1"), &sign));
        daemon.accept(&event("a", "e"));
        let said = shown
            .find(|line| line.trim_start().starts_with("signature "))
            .unwrap();
        assert_eq!(
            said.trim()
                .strip_prefix("signature ")
                .map(|said| said.starts_with(verdict)),
            Some(true),
            "{said}"
        );
        receiver.kill().unwrap();
        receiver.wait().unwrap();
    }
}
