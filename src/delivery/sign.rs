//! Signatures over finished requests: Standard Webhooks 1.0.0, symmetric (`v1`). Pure, and knows nothing of
//! connections; the exact bytes that are sent are what is signed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;

use super::render::{OutgoingRequest, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use crate::domain::endpoint::{SignPolicy, SigningKey};

/// What secrets of Standard Webhooks begin with.
const SECRET_PREFIX: &str = "whsec_";

/// Signs an endpoint's requests. Each key is kept as the HMAC that has already taken it in, which saves
/// two of the hash's blocks on each request.
#[derive(Clone, Debug)]
pub struct Signer {
    keyed: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// Prepares every key of every policy; none signs nothing.
    ///
    /// # Errors
    /// One sentence if a key cannot be used.
    pub fn new(policies: &[SignPolicy]) -> Result<Self, String> {
        let keys = policies.iter().flat_map(|SignPolicy::Standard { keys }| keys);
        let keyed = keys
            .map(|key| {
                Hmac::new_from_slice(&key.0).map_err(|why| format!("sign: a secret cannot be used: {why}"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { keyed })
    }

    /// Adds `webhook-signature`: for each key `v1,` and the base64 of HMAC-SHA256 over
    /// `{webhook-id}.{webhook-timestamp}.{body}`, separated by spaces, so that a receiver which knows any
    /// one of the keys can verify it (D5). Does nothing without keys.
    ///
    /// # Errors
    /// One sentence if the request has no id or timestamp to sign.
    pub fn sign(&self, request: &mut OutgoingRequest) -> Result<(), String> {
        if self.keyed.is_empty() {
            return Ok(());
        }
        let (Some(id), Some(timestamp)) = (
            request.headers.get(WEBHOOK_ID),
            request.headers.get(WEBHOOK_TIMESTAMP),
        ) else {
            return Err("a request without webhook-id and webhook-timestamp cannot be signed".to_owned());
        };
        let mut text = String::with_capacity(48 * self.keyed.len());
        for keyed in &self.keyed {
            let mut mac = keyed.clone();
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", &request.body] {
                mac.update(part);
            }
            text.push_str(if text.is_empty() { "v1," } else { " v1," });
            STANDARD.encode_string(mac.finalize().into_bytes(), &mut text);
        }
        let mut value = HeaderValue::try_from(text).map_err(|why| format!("webhook-signature: {why}"))?;
        value.set_sensitive(true);
        request.headers.insert(WEBHOOK_SIGNATURE, value);
        Ok(())
    }
}

/// Reads a symmetric Standard Webhooks secret: `whsec_` and the base64 of 24 to 64 random bytes.
///
/// # Errors
/// One sentence saying what is wrong, without showing the secret.
pub fn parse_secret(text: &str) -> Result<SigningKey, String> {
    const MEND: &str = "make one with: echo whsec_$(openssl rand -base64 32)";
    let Some(encoded) = text.strip_prefix(SECRET_PREFIX) else {
        return Err(format!(
            "a signing secret begins with {SECRET_PREFIX}, this one does not; {MEND}"
        ));
    };
    let key = STANDARD
        .decode(encoded)
        .map_err(|_| format!("what follows {SECRET_PREFIX} in this signing secret is not base64; {MEND}"))?;
    if !(24..=64).contains(&key.len()) {
        return Err(format!(
            "a signing secret holds 24 to 64 bytes, this one {}; {MEND}",
            key.len()
        ));
    }
    Ok(SigningKey(key.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::render::RequestTemplate;
    use crate::delivery::tests::{endpoint, event};
    use crate::domain::time::Timestamp;

    /// The secret of the Standard Webhooks specification's own example.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn signed(secrets: &[&str], id: &str, timestamp: u64, body: &str) -> OutgoingRequest {
        let keys = secrets.iter().map(|text| parse_secret(text).unwrap()).collect();
        let template = RequestTemplate::new(&endpoint("http://127.0.0.1/").request, None).unwrap();
        let mut request = template
            .render(&[event(id, body)], id, 1, Timestamp(timestamp * 1000))
            .unwrap();
        Signer::new(&[SignPolicy::Standard { keys }])
            .unwrap()
            .sign(&mut request)
            .unwrap();
        request
    }

    /// D4: the example of the specification, byte for byte.
    #[test]
    fn d4_the_specifications_example() {
        let request = signed(
            &[SECRET],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        let signature = &request.headers[WEBHOOK_SIGNATURE];
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
            .as_secs();
        for id in ["01JHZ", "order.17 é"] {
            let request = signed(&[SECRET, OTHER], id, now, r#"{"n":1}"#);
            for secret in [SECRET, OTHER] {
                let official = standardwebhooks::Webhook::new(secret).unwrap();
                official.verify(&request.body, &request.headers).unwrap();
                assert!(official.verify(b"{}", &request.headers).is_err());
            }
            let stranger =
                standardwebhooks::Webhook::new(&format!("whsec_{}", STANDARD.encode([7; 32]))).unwrap();
            assert!(stranger.verify(&request.body, &request.headers).is_err());
        }
    }

    #[test]
    fn without_a_secret_there_is_no_signature() {
        assert!(!signed(&[], "e", 1, "{}").headers.contains_key(WEBHOOK_SIGNATURE));
    }

    #[test]
    fn d4_bad_secrets_say_what_is_wrong_and_are_not_shown() {
        let encoded = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![b'k'; bytes]));
        for (text, message) in [
            ("hunter2".to_owned(), "begins with whsec_"),
            ("whsec_not base64!".to_owned(), "not base64"),
            (encoded(23), "this one 23"),
            (encoded(65), "this one 65"),
        ] {
            let error = parse_secret(&text).unwrap_err();
            assert!(error.contains(message) && !error.contains(&text), "{error}");
        }
        assert_eq!(parse_secret(&encoded(24)).unwrap().0.len(), 24);
        assert_eq!(parse_secret(&encoded(64)).unwrap().0.len(), 64);
    }
}
