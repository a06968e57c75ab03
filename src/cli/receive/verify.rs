//! Verifies signatures as a receiver does: from the headers and bytes that came. What a scheme signs is
//! [`crate::delivery::sign`]'s business; here stands what the command line says of it. Pure.

use http::header::HOST;
use url::Url;

use super::server::Received;
use crate::delivery::render::OutgoingRequest;
use crate::delivery::sign::check::Checker;
use crate::domain::endpoint::Preset;

/// What public and private Ed25519 keys begin with.
const ED25519_PREFIXES: [&str; 2] = ["whpk_", "whsk_"];

/// The schemes and keys that a receiver knows.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// Each with the number (from 1) of each of its secrets, as they were given.
    checkers: Vec<(Checker, Vec<usize>)>,
}

/// What a good signature was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The scheme.
    pub scheme: &'static str,
    /// Which of the secrets that were given, from 1.
    pub secret: usize,
}

impl Verifier {
    /// A verifier for requests signed by the scheme `preset` with any of `secrets`. A public key makes `standard` the
    /// scheme with public keys.
    ///
    /// # Errors
    /// One sentence if a secret is none, without showing it.
    pub fn new(preset: Preset, secrets: &[String]) -> Result<Self, String> {
        let is_ed25519 = |text: &str| ED25519_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        let numbered = || secrets.iter().map(String::as_str).zip(1..);
        let (public, shared): (Vec<_>, Vec<_>) =
            numbered().partition(|(text, _)| preset == Preset::Standard && is_ed25519(text));
        let mut groups = Vec::new();
        if !public.is_empty() {
            groups.push((Preset::StandardEd25519, public));
        }
        if !shared.is_empty() || groups.is_empty() {
            groups.push((preset, shared));
        }
        let checker = |(preset, secrets): (Preset, Vec<(&str, usize)>)| {
            let (texts, numbers): (Vec<&str>, Vec<usize>) = secrets.into_iter().unzip();
            Checker::new(preset, &texts).map(|checker| (checker, numbers))
        };
        let checkers = groups.into_iter().map(checker).collect::<Result<_, _>>()?;
        Ok(Self { checkers })
    }

    /// What one of the signatures of `received` was made with.
    ///
    /// # Errors
    /// Why it is not verified, fit to stand behind the word "signature".
    pub fn verify(&self, received: &Received) -> Result<Verified, String> {
        let host = received.headers.get(HOST).and_then(|host| host.to_str().ok());
        let url = format!("http://{}{}", host.unwrap_or("localhost"), received.path);
        let request = OutgoingRequest {
            method: received.method.clone(),
            url: Url::parse(&url)
                .map_err(|error| format!("not verified: its address can't be read: {error}"))?,
            headers: received.headers.clone().into(),
            body: received.body.clone(),
        };
        let mut reasons = Vec::new();
        for (checker, numbers) in &self.checkers {
            match checker.check(&request, received.at) {
                Ok(index) => {
                    return Ok(Verified {
                        scheme: checker.scheme(),
                        secret: numbers.get(index).copied().unwrap_or_default(),
                    });
                }
                Err(why) => reasons.push(why),
            }
        }
        Err(reasons.pop().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;
    use crate::cli::receive::behaviour::Behaviour;
    use crate::delivery::sign::{Signer, parse_private_key, parse_secret, parse_text};
    use crate::domain::endpoint::{SignPolicy, SignScheme, SigningSecret};
    use crate::domain::time::Timestamp;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn received(headers: HeaderMap, body: &str) -> Received {
        Received {
            at: NOW,
            method: http::Method::POST,
            path: "/hook?a=1".to_owned(),
            headers,
            body: Bytes::copy_from_slice(body.as_bytes()),
            answer: Behaviour::Status(200),
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    /// H4: agrees with the official library on what it signed, and says what is wrong with everything else.
    #[test]
    fn h4_verdicts() {
        let secret = |byte: u8| format!("whsec_{}", STANDARD.encode([byte; 32]));
        let official = standardwebhooks::Webhook::new(&STANDARD.encode([7; 32])).unwrap();
        let tag = official.sign("evt-1", 1_700_000_000, b"{}").unwrap();
        let other = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let [both, v1a] = [format!("{other} {tag}"), format!("v1a,{}", &tag[3..])];
        for (secrets, signature, timestamp, body, expected) in [
            (&[secret(7)][..], &*tag, "1700000000", "{}", "secret: 1"),
            (&[secret(1), secret(7)], &*both, "1700000000", "{}", "secret: 2"),
            (&[secret(7)], &*tag, "1700000000", "{ }", "over other bytes"),
            (&[secret(1)], &*tag, "1700000000", "{}", "another secret"),
            (&[secret(7)], other, "1700000000", "{}", "another secret"),
            (&[secret(7)], &*v1a, "1700000000", "{}", "another secret"),
            (&[secret(7)], "v1,!!!", "1700000000", "{}", "another secret"),
            (&[secret(7)], &*tag, "1699999699", "{}", "301 s away"),
            (&[secret(7)], &*tag, "1700000301", "{}", "301 s away"),
            (&[secret(7)], &*tag, "soon", "{}", "not a time"),
            (&[], &*tag, "1700000000", "{}", "no --secret"),
        ] {
            let headers = headers(&[
                ("webhook-id", "evt-1"),
                ("webhook-timestamp", timestamp),
                ("webhook-signature", signature),
            ]);
            let verifier = Verifier::new(Preset::Standard, secrets).unwrap();
            let verdict = format!("{:?}", verifier.verify(&received(headers, body)));
            assert!(
                verdict.contains(expected),
                "{signature} {timestamp} {body}: {verdict}"
            );
        }
        let verifier = Verifier::new(Preset::Standard, &[secret(7)]).unwrap();
        let missing = verifier.verify(&received(HeaderMap::new(), "{}")).unwrap_err();
        assert!(missing.contains("no webhook-signature"), "{missing}");
    }

    /// H4: what each preset signs is verified by what its receiver knows, and by nothing else.
    #[test]
    fn h4_every_preset_is_verified() {
        let seed = [42; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let public = format!("whpk_{}", STANDARD.encode(pair.public_key().as_ref()));
        let private = format!("whsk_{}", STANDARD.encode(seed));
        let shared = format!("whsec_{}", STANDARD.encode(seed));
        for &(name, preset) in Preset::NAMES {
            let (key, known) = match preset {
                Preset::Standard => (parse_secret(&shared).unwrap(), &shared),
                Preset::StandardEd25519 | Preset::Discord => (parse_private_key(&private).unwrap(), &public),
                _ => (parse_text(&shared).unwrap(), &shared),
            };
            let policy = SignPolicy {
                scheme: SignScheme::Preset(preset),
                secrets: vec![SigningSecret { key, until: None }],
            };
            let mut request = OutgoingRequest {
                method: http::Method::POST,
                url: Url::parse("http://a.example/hook?a=1").unwrap(),
                headers: headers(&[
                    ("webhook-id", "evt-1"),
                    ("webhook-timestamp", "1700000000"),
                    ("host", "a.example"),
                ])
                .into(),
                body: Bytes::from_static(b"{}"),
            };
            Signer::new(&[policy]).unwrap().sign(&mut request, NOW).unwrap();
            let verifier = Verifier::new(preset, std::slice::from_ref(known)).unwrap();
            let verdict = verifier.verify(&received(request.headers.clone().into(), "{}"));
            assert_eq!(
                verdict,
                Ok(Verified {
                    scheme: name,
                    secret: 1
                })
            );
            let changed = verifier.verify(&received(request.headers.into(), "{ }"));
            assert!(changed.unwrap_err().contains("over other bytes"), "{name}");
        }
        // Either half of the key pair says that `standard` means its public keys.
        for key in [public, private] {
            let verifier = Verifier::new(Preset::Standard, &[shared.clone(), key]).unwrap();
            assert_eq!(verifier.checkers.len(), 2);
        }
        for wrong in ["whpk_short", "hunter2"] {
            let error = Verifier::new(Preset::StandardEd25519, &[wrong.to_owned()]).unwrap_err();
            assert!(
                error.contains("a public key is") && !error.contains(wrong),
                "{error}"
            );
        }
    }
}
