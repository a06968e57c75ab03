//! Secrets of Standard Webhooks signatures as they are written: `whsec_` and base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::endpoint::SigningKey;

const PREFIX: &str = "whsec_";

/// Reads `whsec_` followed by the base64 of 24 to 64 random bytes (Standard Webhooks 1.0.0, "Signature
/// scheme").
///
/// # Errors
/// One sentence that says what is wrong and never quotes the secret.
pub(super) fn parse_secret(text: &str) -> Result<SigningKey, String> {
    const MEND: &str = "make one with: echo whsec_$(openssl rand -base64 32)";
    let encoded = text
        .strip_prefix(PREFIX)
        .ok_or_else(|| format!("a signing secret begins with {PREFIX}; {MEND}"))?;
    let key = STANDARD
        .decode(encoded)
        .map_err(|_| format!("what follows {PREFIX} in this signing secret is not base64; {MEND}"))?;
    if !(24..=64).contains(&key.len()) {
        return Err(format!(
            "a signing secret holds 24 to 64 bytes, this one {}; {MEND}",
            key.len()
        ));
    }
    Ok(SigningKey(key.into_boxed_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D4: the prefix and the length are asked for; what is not a secret is not quoted.
    #[test]
    fn d4_secrets_are_decoded() {
        assert_eq!(
            parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
                .unwrap()
                .0
                .len(),
            24
        );
        for bad in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "hunter2!",
            "whsec_hunter2!",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            let error = parse_secret(bad).unwrap_err();
            assert!(
                error.contains("signing secret") && !error.contains("hunter2"),
                "{error}"
            );
            assert!(!error.contains("MfKQ"), "{error}");
        }
    }
}
