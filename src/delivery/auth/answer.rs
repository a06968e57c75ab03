//! What a token endpoint answers (RFC 6749 §5). Pure.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::secret::Secret;

/// Longest piece of an error that is passed on, in characters.
const ERROR_CHARS_MAX: usize = 200;

/// An access token, and what came with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// The access token.
    pub access_token: Secret,
    /// How long it is good for, if the server says so.
    pub lifetime: Option<Duration>,
    /// A refresh token that takes the place of the one we have (RFC 6749 §6).
    pub refresh_token: Option<Secret>,
}

#[derive(Deserialize)]
struct Written {
    access_token: Option<String>,
    expires_in: Option<Value>,
    refresh_token: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Reads the body of a 2xx answer.
///
/// # Errors
/// What it lacks, fit to stand behind "it answered 200".
pub(super) fn granted(body: &[u8], secrets: &[&Secret]) -> Result<Grant, String> {
    let Ok(written) = serde_json::from_slice::<Written>(body) else {
        return Err("with what is no JSON object".to_owned());
    };
    let Some(token) = written.access_token.as_ref().filter(|token| !token.is_empty()) else {
        return Err(format!("without an access_token{}", said(&written, secrets)));
    };
    Ok(Grant {
        access_token: Secret::new(token),
        lifetime: written.expires_in.as_ref().and_then(seconds),
        refresh_token: written.refresh_token.as_deref().map(Secret::new),
    })
}

/// What the body of any other answer says (RFC 6749 §5.2), with a space before it; empty if it says nothing.
/// Whatever of `secrets` it repeats is masked.
pub(super) fn refusal(body: &[u8], secrets: &[&Secret]) -> String {
    serde_json::from_slice::<Written>(body).map_or_else(|_| String::new(), |written| said(&written, secrets))
}

fn said(written: &Written, secrets: &[&Secret]) -> String {
    let part = |text: &Option<String>, before: &str| {
        let mut text = text.clone().unwrap_or_default();
        for secret in secrets.iter().filter(|secret| !secret.expose().is_empty()) {
            text = text.replace(secret.expose(), "[secret]");
        }
        let kept = text.chars().filter(|c| !c.is_control());
        let kept: String = kept.take(ERROR_CHARS_MAX).collect();
        if kept.is_empty() {
            kept
        } else {
            format!("{before}{kept}")
        }
    };
    part(&written.error, " ") + &part(&written.error_description, ": ")
}

/// `expires_in` is a number (RFC 6749 §5.1), which some servers write as a string.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D2: the examples of RFC 6749 and what servers write instead.
    #[test]
    fn d2_grants() {
        for (body, lifetime, refresh) in [
            (
                r#"{"access_token":"T","token_type":"example","expires_in":3600,"refresh_token":"R","example_parameter":"e"}"#,
                Some(3600),
                Some("R"),
            ),
            (r#"{"access_token":"T","expires_in":"60"}"#, Some(60), None),
            (r#"{"access_token":"T","expires_in":-1}"#, None, None),
            (r#"{"access_token":"T","expires_in":1e300}"#, None, None),
            (r#"{"access_token":"T"}"#, None, None),
        ] {
            let grant = granted(body.as_bytes(), &[]).unwrap();
            assert_eq!(grant.access_token.expose(), "T", "{body}");
            assert_eq!(grant.lifetime, lifetime.map(Duration::from_secs), "{body}");
            assert_eq!(
                grant.refresh_token.as_ref().map(Secret::expose),
                refresh,
                "{body}"
            );
        }
        for (body, message) in [
            ("<html>", "no JSON object"),
            ("[]", "no JSON object"),
            ("{}", "without an access_token"),
            (r#"{"access_token":""}"#, "without an access_token"),
            (
                r#"{"error":"bad_verification_code"}"#,
                "without an access_token bad_verification_code",
            ),
        ] {
            let error = granted(body.as_bytes(), &[]).unwrap_err();
            assert!(error.contains(message), "{body}: {error}");
        }
    }

    /// D2, C6: the reason is passed on, bounded, and without the secret some servers repeat.
    #[test]
    fn d2_refusals() {
        let secret = Secret::new("hunter2");
        for (body, expected) in [
            (r#"{"error":"invalid_client"}"#, " invalid_client"),
            (
                r#"{"error":"invalid_client","error_description":"hunter2 is wrong\n"}"#,
                " invalid_client: [secret] is wrong",
            ),
            ("not JSON", ""),
        ] {
            assert_eq!(refusal(body.as_bytes(), &[&secret]), expected);
        }
        let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(9000));
        assert_eq!(refusal(long.as_bytes(), &[]).len(), ERROR_CHARS_MAX + 1);
    }
}
