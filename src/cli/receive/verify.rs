//! Verifies Standard Webhooks 1.0.0 signatures as a receiver does: from the headers and bytes that came,
//! not from anything the sender knows. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

use crate::domain::endpoint::SigningKey;

/// A timestamp may be this far from our clock, in seconds, so that an old request cannot be replayed for ever.
const TOLERANCE_SECONDS: u64 = 300;

/// The keys a receiver knows.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Vec<SigningKey>,
}

impl Verifier {
    /// A verifier for requests signed with any of `keys`.
    #[must_use]
    pub fn new(keys: Vec<SigningKey>) -> Self {
        Self { keys }
    }

    /// Whether one of the request's signatures was made with one of the keys, at about `now_seconds` (Unix).
    ///
    /// # Errors
    /// Why it is not verified, fit to stand behind the word "signature".
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now_seconds: u64) -> Result<(), String> {
        let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(signatures) = get("webhook-signature") else {
            return Err("missing: there is no webhook-signature header".to_owned());
        };
        if self.keys.is_empty() {
            return Err("not verified: no --secret was given".to_owned());
        }
        let (Some(id), Some(timestamp)) = (get("webhook-id"), get("webhook-timestamp")) else {
            return Err("wrong: webhook-id or webhook-timestamp is missing".to_owned());
        };
        let Some(distance) = timestamp.parse().ok().map(|sent: u64| sent.abs_diff(now_seconds)) else {
            return Err(format!(
                "wrong: webhook-timestamp {timestamp:?} is not a number of seconds"
            ));
        };
        if distance > TOLERANCE_SECONDS {
            return Err(format!(
                "wrong: webhook-timestamp is {distance} s away from this clock"
            ));
        }
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        let tags: Vec<_> = signatures
            .split(' ')
            .filter_map(|text| text.strip_prefix("v1,"))
            .collect();
        match self
            .keys
            .iter()
            .any(|key| tags.iter().any(|tag| is_made_with(key, &signed, tag)))
        {
            true => Ok(()),
            false => Err("wrong: made with another secret, or over other bytes".to_owned()),
        }
    }
}

/// Whether `tag` (base64) is the HMAC-SHA256 of `parts` under `key`; takes the same time wherever they differ.
fn is_made_with(key: &SigningKey, parts: &[&[u8]], tag: &str) -> bool {
    let (Ok(mut mac), Ok(tag)) = (Hmac::<Sha256>::new_from_slice(&key.0), STANDARD.decode(tag)) else {
        return false;
    };
    parts.iter().for_each(|part| mac.update(part));
    mac.verify_slice(&tag).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H4: agrees with the official library on what it signed, and says what is wrong with everything else.
    #[test]
    fn h4_verdicts() {
        let now = 1_700_000_000;
        let bytes = [7; 32];
        let official = standardwebhooks::Webhook::new(&STANDARD.encode(bytes)).unwrap();
        let tag = official
            .sign("evt-1", i64::try_from(now).unwrap(), b"{}")
            .unwrap();
        let other = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let key = |byte| SigningKey([byte; 32].into());
        let [both, v1a] = [format!("{other} {tag}"), format!("v1a,{}", &tag[3..])];
        for (keys, signature, timestamp, body, expected) in [
            (&[key(7)][..], &*tag, "1700000000", "{}", "Ok"),
            (&[key(1), key(7)], &*both, "1700000000", "{}", "Ok"),
            (&[key(7)], &*tag, "1700000000", "{ }", "over other bytes"),
            (&[key(1)], &*tag, "1700000000", "{}", "another secret"),
            (&[key(7)], other, "1700000000", "{}", "another secret"),
            (&[key(7)], &*v1a, "1700000000", "{}", "another secret"),
            (&[key(7)], "v1,!!!", "1700000000", "{}", "another secret"),
            (&[key(7)], &*tag, "1699999699", "{}", "301 s away"),
            (&[key(7)], &*tag, "1700000301", "{}", "301 s away"),
            (&[key(7)], &*tag, "soon", "{}", "not a number"),
            (&[], &*tag, "1700000000", "{}", "no --secret"),
        ] {
            let headers = [
                ("webhook-id", "evt-1"),
                ("webhook-timestamp", timestamp),
                ("webhook-signature", signature),
            ]
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>();
            let verdict = format!(
                "{:?}",
                Verifier::new(keys.to_vec()).verify(&headers, body.as_bytes(), now)
            );
            assert!(
                verdict.contains(expected),
                "{signature} {timestamp} {body}: {verdict}"
            );
        }
        let missing = Verifier::new(vec![key(7)])
            .verify(&HeaderMap::new(), b"{}", now)
            .unwrap_err();
        assert!(missing.contains("no webhook-signature"), "{missing}");
    }
}
