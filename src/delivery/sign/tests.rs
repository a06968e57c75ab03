//! Signatures against the specifications' own examples and the official library. What other people's libraries say to
//! deliveries of the built daemon stands in `tests/verifiers`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::delivery::render::WEBHOOK_SIGNATURE;
use crate::delivery::tests::{composed, endpoint, event};
use crate::domain::endpoint::{
    CustomSign, HmacHash, Preset, SignScheme, SignatureEncoding, SigningKey, SigningSecret, TimestampFormat,
};

/// The secret of the Standard Webhooks specification's own example.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn secret(key: SigningKey) -> SigningSecret {
    SigningSecret { key, until: None }
}

fn texts(list: &[&str]) -> Vec<SigningSecret> {
    list.iter()
        .map(|text| secret(parse_text(text).unwrap()))
        .collect()
}

fn preset(preset: Preset, secrets: Vec<SigningSecret>) -> SignPolicy {
    SignPolicy {
        scheme: SignScheme::Preset(preset),
        secrets,
    }
}

fn standard(list: &[&str]) -> SignPolicy {
    let secrets = list.iter().map(|text| secret(parse_secret(text).unwrap()));
    preset(Preset::Standard, secrets.collect())
}

fn sign(policies: &[SignPolicy], id: &str, now_ms: u64, body: &str) -> Result<OutgoingRequest, String> {
    let endpoint = endpoint("http://127.0.0.1/leads?q=1");
    let mut request = composed(&endpoint, &event(id, body), 1, Timestamp(now_ms))?;
    Signer::new(policies)?.sign(&mut request, Timestamp(now_ms))?;
    Ok(request)
}

/// D4: the example of the specification, byte for byte.
#[test]
fn d4_the_specifications_example() {
    let request = sign(
        &[standard(&[SECRET])],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330_000,
        r#"{"test": 2432232314}"#,
    )
    .unwrap();
    let signature = request.headers.get(&WEBHOOK_SIGNATURE).unwrap();
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert!(signature.is_sensitive());
}

/// D4, D5: the official library accepts it with either secret, also for an id that had to be encoded,
/// and refuses it with a third or over another body.
#[test]
fn d5_the_official_library_verifies_each_of_several_secrets() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    for id in ["01JHZ", "order.17 é"] {
        let policy = standard(&[SECRET, OTHER]);
        let request = sign(&[policy], id, u64::try_from(now).unwrap(), r#"{"n":1}"#).unwrap();
        for secret in [SECRET, OTHER] {
            let official = standardwebhooks::Webhook::new(secret).unwrap();
            official
                .verify(&request.body, &request.headers.clone().into())
                .unwrap();
            assert!(official.verify(b"{}", &request.headers.clone().into()).is_err());
        }
        let stranger =
            standardwebhooks::Webhook::new(&format!("whsec_{}", STANDARD.encode([7; 32]))).unwrap();
        assert!(stranger.verify(&request.body, &request.headers.into()).is_err());
    }
}

/// D4: Ed25519 by the second test vector of RFC 8032 §7.1 (its key, over the text of the scheme), beside v1.
#[test]
fn d4_ed25519_stands_beside_v1() {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    let bytes = |text: &str| -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    };
    let seed = bytes("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
    let public = bytes("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    for key in [seed.clone(), [seed, public.clone()].concat()] {
        let key = parse_private_key(&format!("whsk_{}", STANDARD.encode(key))).unwrap();
        let policies = [
            standard(&[SECRET]),
            preset(Preset::StandardEd25519, vec![secret(key)]),
        ];
        let request = sign(&policies, "e1", 1_700_000_000_000, "{}").unwrap();
        let value = request.headers.get(&WEBHOOK_SIGNATURE).unwrap().to_str().unwrap();
        let (first, second) = value.split_once(" v1a,").unwrap();
        assert!(first.starts_with("v1,"), "{value}");
        UnparsedPublicKey::new(&ED25519, &public)
            .verify(b"e1.1700000000.{}", &STANDARD.decode(second).unwrap())
            .unwrap();
    }
}

/// D4: every other preset, its headers byte for byte; the signatures are Python's `hmac` over the text named beside each.
#[test]
fn d4_presets() {
    const MS: u64 = 1_700_000_000_123;
    for (which, expected) in [
        // {"n":1}
        (
            Preset::Github,
            &[(
                "x-hub-signature-256",
                "sha256=7ae80b7e2fb46012f92b6c81c1fd61f6df6fcfecd2d16c616f647bc84cc7716c",
            )][..],
        ),
        // 1700000000.{"n":1}
        (
            Preset::Stripe,
            &[(
                "stripe-signature",
                "t=1700000000,v1=1bf91dbd9b0978e2eb765771fdeef35b95b6cc1d5d1176f4913c4c985fbea70c,v1=7226a96392e16044d89650d67cb53d92cf3fdd557e48be9b7fa0c8a8fe96ff17",
            )],
        ),
        // {"n":1}
        (
            Preset::Shopify,
            &[(
                "x-shopify-hmac-sha256",
                "eugLfi+0YBL5K2yBwf1h9t9vz+zS0Wxhb2R7yEzHcWw=",
            )],
        ),
        // v0:1700000000:{"n":1}
        (
            Preset::Slack,
            &[
                (
                    "x-slack-signature",
                    "v0=f12e05ac147f77e81fa9ae4d5bb84dafd1df8715e8a5a1cd654e7f3b3d9f07fd",
                ),
                ("x-slack-request-timestamp", "1700000000"),
            ],
        ),
        // POSThttp://127.0.0.1/leads?q=1{"n":1}1700000000123
        (
            Preset::Hubspot,
            &[
                (
                    "x-hubspot-signature-v3",
                    "j5PQDOTP6FQe9UBUTaa9LqpgV7aTNWDQRYO24QwQ7lA=",
                ),
                ("x-hubspot-request-timestamp", "1700000000123"),
            ],
        ),
        // http://127.0.0.1/leads?q=1{"n":1}
        (
            Preset::Square,
            &[(
                "x-square-hmacsha256-signature",
                "U52sw1S6MaMjfwHlsEtgNst4ps8aU0IuET3TTl/C0p4=",
            )],
        ),
        // {"n":1}
        (
            Preset::Timestamped,
            &[
                (
                    "x-signature",
                    "7ae80b7e2fb46012f92b6c81c1fd61f6df6fcfecd2d16c616f647bc84cc7716c",
                ),
                ("x-timestamp", "1700000000123"),
            ],
        ),
        // POST/leads1700000000{"n":1}
        (
            Preset::Canonical,
            &[
                (
                    "x-signature",
                    "07625350d967b2b6544856866a50f5c4e01d8183ca1e6cbadee388a94689eaae",
                ),
                ("x-timestamp", "1700000000"),
            ],
        ),
        // {"n":1}
        (
            Preset::Webhook,
            &[
                (
                    "x-webhook-signature",
                    "7ae80b7e2fb46012f92b6c81c1fd61f6df6fcfecd2d16c616f647bc84cc7716c",
                ),
                ("x-webhook-timestamp", "2023-11-14T22:13:20.123Z"),
            ],
        ),
    ] {
        let request = sign(&[preset(which, texts(&["s1", "s2"]))], "e", MS, r#"{"n":1}"#).unwrap();
        for (name, value) in expected {
            assert_eq!(request.headers.get(name).unwrap(), value, "{which:?}");
            assert_eq!(
                request.headers.get(name).unwrap().is_sensitive(),
                name.contains("signature") || name.contains("hmac")
            );
        }
    }
}

fn custom(content: &str, value: &str) -> SignPolicy {
    SignPolicy {
        scheme: SignScheme::Custom(Box::new(CustomSign {
            algorithm: HmacHash::Sha1,
            encoding: SignatureEncoding::Base64,
            content: content.into(),
            header: http::HeaderName::from_static("x-sig"),
            value: value.into(),
            timestamp_header: Some(http::HeaderName::from_static("x-sent")),
            timestamp: TimestampFormat::Unix,
        })),
        secrets: texts(&["s1"]),
    }
}

/// D4: a scheme spelt out, with every name its templates know.
#[test]
fn d4_custom_schemes() {
    let every = "{{id}}|{{ timestamp }}|{{ timestamp_ms }}|{{ timestamp_iso }}|{{ method }}|{{ path }}|{{ query }}|{{ body_sha256 }}|{{ url }}|{{ body }}";
    let policy = custom(every, "keyId=1,t={{ timestamp }},sig={{ signature }}");
    let request = sign(&[policy], "e1", 1_700_000_000_123, "{}").unwrap();
    // Python's hmac with SHA-1 over that text.
    assert_eq!(
        request.headers.get("x-sig").unwrap(),
        "keyId=1,t=1700000000,sig=fqtULh0ZPbljJAngxN0jFrILF0U="
    );
    assert_eq!(request.headers.get("x-sent").unwrap(), "1700000000");
}

/// D4: what a list of names can't say is left to the language, for bodies that are text.
#[test]
fn d4_templates_may_do_more_than_name_parts() {
    let policy = custom(
        "{{ method|lower }}{% if query %}?{{ query }}{% endif %}\n{{ body }}",
        "{{ signature|upper }}",
    );
    let named = custom("post?q=1\n{{ body }}", "{{ signature }}");
    let value = |policy| {
        sign(&[policy], "e", 0, "{}")
            .unwrap()
            .headers
            .get("x-sig")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(value(policy.clone()), value(named).to_uppercase());

    let mut request = sign(&[], "e", 0, "{}").unwrap();
    request.body = vec![0xff].into();
    let signed = |policy, request: &OutgoingRequest| {
        Signer::new(&[policy])
            .unwrap()
            .sign(&mut request.clone(), Timestamp(0))
    };
    assert!(signed(policy, &request).unwrap_err().contains("no text"));
    signed(custom("{{ body }}", "{{ signature }}"), &request).unwrap();
}

/// D5: an old secret signs until its time, and not from then on.
#[test]
fn d5_secrets_expire() {
    let mut policy = standard(&[SECRET, OTHER]);
    policy.secrets[1].until = Some(Timestamp(2000));
    let count = |now| {
        let request = sign(std::slice::from_ref(&policy), "e", now, "{}").unwrap();
        request
            .headers
            .get(&WEBHOOK_SIGNATURE)
            .unwrap()
            .to_str()
            .unwrap()
            .split(' ')
            .count()
    };
    assert_eq!((count(1999), count(2000)), (2, 1));

    // Where one signs, the next takes over.
    let mut policy = preset(Preset::Github, texts(&["s1", "s2"]));
    policy.secrets[0].until = Some(Timestamp(2000));
    let value = |policy: &SignPolicy, now| {
        let request = sign(std::slice::from_ref(policy), "e", now, "{}").unwrap();
        request.headers.get("x-hub-signature-256").unwrap().clone()
    };
    assert_eq!(
        value(&policy, 1999),
        value(&preset(Preset::Github, texts(&["s1"])), 0)
    );
    assert_eq!(
        value(&policy, 2000),
        value(&preset(Preset::Github, texts(&["s2"])), 0)
    );

    policy.secrets[1].until = Some(Timestamp(2000));
    let error = sign(&[policy], "e", 2000, "{}").unwrap_err();
    assert!(error.contains("has expired"), "{error}");
}

#[test]
fn without_a_policy_there_is_no_signature() {
    let request = sign(&[], "e", 1, "{}").unwrap();
    assert!(!request.headers.contains(&WEBHOOK_SIGNATURE));
}

#[test]
fn d4_schemes_that_share_a_header_are_refused() {
    let policies = [
        preset(Preset::Timestamped, texts(&["s1"])),
        preset(Preset::Canonical, texts(&["s1"])),
    ];
    let error = sign(&policies, "e", 1, "{}").unwrap_err();
    assert!(error.contains("can't share the header x-signature"), "{error}");
}

/// D4: templates that sign nothing, or say nothing, are refused when they are read.
#[test]
fn d4_bad_templates() {
    for (content, message) in [
        ("{{ bdy }}", "`bdy` is not known here"),
        ("{{ body", "can't be read"),
        ("{{ timestamp }}", "leaves the body out"),
        ("{{ body }}{{ signature }}", "can't stand in what is signed"),
    ] {
        let error = check_content(content).unwrap_err();
        assert!(error.contains(message), "{content}: {error}");
    }
    for (value, message) in [
        ("v1", "would not hold the signature"),
        ("{{ signature }}{{ body }}", "can't hold the body"),
    ] {
        let error = check_value(value).unwrap_err();
        assert!(error.contains(message), "{value}: {error}");
    }
    check_content("{{ method }}{{ body_sha256 }}").unwrap();
    check_value("sig={{signature}}").unwrap();
}
