//! Reads the secrets of `[[endpoint.sign]]`: how long they have to be and how they are encoded. Pure; no
//! message shows one.

use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::endpoint::SigningKey;

/// What symmetric secrets of Standard Webhooks begin with.
const SECRET_PREFIX: &str = "whsec_";
/// What private keys of Standard Webhooks begin with.
const PRIVATE_PREFIX: &str = "whsk_";
/// What public keys of Standard Webhooks begin with.
const PUBLIC_PREFIX: &str = "whpk_";

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
    let key = decoded(encoded).ok_or_else(|| {
        format!("what follows {SECRET_PREFIX} in this signing secret is not base64; {MEND}")
    })?;
    if !(24..=64).contains(&key.len()) {
        return Err(format!(
            "a signing secret holds 24 to 64 bytes, this one {}; {MEND}",
            key.len()
        ));
    }
    Ok(SigningKey(key.into()))
}

/// Reads a private Standard Webhooks key: `whsk_` and the base64 of an Ed25519 seed (32 bytes, RFC 8032 §5.1.5),
/// alone or with the public key behind it (64 bytes, as NaCl writes it).
///
/// # Errors
/// One sentence saying what is wrong, without showing the key.
pub fn parse_private_key(text: &str) -> Result<SigningKey, String> {
    const MEND: &str = "make one with: echo whsk_$(openssl rand -base64 32)";
    if text.starts_with(PUBLIC_PREFIX) {
        return Err(format!(
            "{PUBLIC_PREFIX} begins a public key, which verifies only: write the private key, {PRIVATE_PREFIX}…"
        ));
    }
    let Some(encoded) = text.strip_prefix(PRIVATE_PREFIX) else {
        return Err(format!(
            "a private key for standard-ed25519 begins with {PRIVATE_PREFIX}, this one does not; {MEND}"
        ));
    };
    let key = decoded(encoded)
        .ok_or_else(|| format!("what follows {PRIVATE_PREFIX} in this private key is not base64; {MEND}"))?;
    if ![32, 64].contains(&key.len()) {
        return Err(format!(
            "a private key holds 32 or 64 bytes, this one {}; {MEND}",
            key.len()
        ));
    }
    let key = SigningKey(key.into());
    super::keyed::key_pair(&key)?;
    Ok(key)
}

/// Reads a public key, which verifies what its private half signed (RFC 8032, section 5.1.5): `whpk_` and the base64 of its
/// 32 bytes, or 64 hexadecimal digits. Of a private key (`whsk_`) it takes the public half.
///
/// # Errors
/// One sentence saying what is wrong, without showing the key.
pub fn parse_public_key(text: &str) -> Result<Box<[u8]>, String> {
    if text.starts_with(PRIVATE_PREFIX) {
        let pair = super::keyed::key_pair(&parse_private_key(text)?)?;
        return Ok(pair.public_key().as_ref().into());
    }
    let bytes = match text.strip_prefix(PUBLIC_PREFIX) {
        Some(encoded) => decoded(encoded),
        None => super::keyed::from_hex(text),
    };
    let key = bytes.filter(|bytes| bytes.len() == 32).ok_or_else(|| {
        format!("a public key is {PUBLIC_PREFIX} and the base64 of 32 bytes, or 64 hexadecimal digits")
    })?;
    Ok(key.into())
}

/// Takes a secret as it stands, prefixes and all: GitHub, Stripe, Shopify, Slack and most others use its text
/// as the key.
///
/// # Errors
/// One sentence if it is empty.
pub fn parse_text(text: &str) -> Result<SigningKey, String> {
    if text.is_empty() {
        return Err("a signing secret can't be empty; make one with: openssl rand -hex 32".to_owned());
    }
    Ok(SigningKey(text.as_bytes().into()))
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(prefix: &str, bytes: usize) -> String {
        format!("{prefix}{}", STANDARD.encode(vec![b'k'; bytes]))
    }

    #[test]
    fn d4_bad_secrets_say_what_is_wrong_and_are_not_shown() {
        type Reader = fn(&str) -> Result<SigningKey, String>;
        for (read, text, message) in [
            (parse_secret as Reader, "hunter2".to_owned(), "begins with whsec_"),
            (parse_secret, "whsec_not base64!".to_owned(), "not base64"),
            (parse_secret, encoded("whsec_", 23), "this one 23"),
            (parse_secret, encoded("whsec_", 65), "this one 65"),
            (parse_private_key, encoded("whsec_", 32), "begins with whsk_"),
            (parse_private_key, encoded("whpk_", 32), "public key"),
            (parse_private_key, encoded("whsk_", 31), "this one 31"),
            (parse_private_key, "whsk_not base64!".to_owned(), "not base64"),
            // Behind the seed stands another's public key.
            (parse_private_key, encoded("whsk_", 64), "don't belong together"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(message) && !error.contains(&text), "{error}");
        }
        assert!(parse_text("").is_err());
    }

    #[test]
    fn d4_good_secrets() {
        assert_eq!(parse_secret(&encoded("whsec_", 24)).unwrap().0.len(), 24);
        assert_eq!(parse_secret(&encoded("whsec_", 64)).unwrap().0.len(), 64);
        assert_eq!(parse_private_key(&encoded("whsk_", 32)).unwrap().0.len(), 32);
        assert_eq!(&*parse_text("whsec_as is").unwrap().0, b"whsec_as is");
    }
}
