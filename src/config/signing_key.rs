//! Secrets of Standard Webhooks signatures as they are written: `whsec_` and base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::endpoint::SigningKey;

/// Reads `whsec_` followed by the base64 of 24 to 64 random bytes (Standard Webhooks 1.0.0, "Signature
/// scheme"); the prefix may be missing.
///
/// # Errors
/// One sentence that says what is wrong and never quotes the secret.
pub(super) fn parse_secret(text: &str) -> Result<SigningKey, String> {
    let encoded = text.strip_prefix("whsec_").unwrap_or(text);
    let key = STANDARD.decode(encoded).map_err(
        |_| "the secret is not base64 after whsec_; make one with: echo whsec_$(openssl rand -base64 32)",
    )?;
    if !(24..=64).contains(&key.len()) {
        return Err(format!(
            "the secret has {} bytes once decoded, it needs 24 to 64",
            key.len()
        ));
    }
    Ok(SigningKey(key.into_boxed_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D4: the example of the specification, with and without prefix; what is not a secret is not quoted.
    #[test]
    fn d4_secrets_are_decoded() {
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(parse_secret(text).unwrap().0.len(), 24);
        assert_eq!(
            parse_secret(text),
            parse_secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        );
        for bad in ["", "whsec_", "whsec_c2hvcnQ=", "hunter2!", "whsec_%%%%"] {
            let error = parse_secret(bad).unwrap_err();
            assert!(
                error.contains("the secret") && (bad.is_empty() || !error.contains("hunter2")),
                "{error}"
            );
        }
    }
}
