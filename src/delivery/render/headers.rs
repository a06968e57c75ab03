//! The headers of requests: those that never change, made once, and those made from each event.

use http::header::{self, HeaderName, HeaderValue};

use super::{ATTEMPT, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use crate::delivery::fields::Fields;
use crate::template::{Scope, Template};

/// Headers that an endpoint may not configure: the first four differ with each try and are what signatures
/// cover, the others belong to the framing of HTTP itself.
const RESERVED: [HeaderName; 7] = [
    WEBHOOK_ID,
    WEBHOOK_TIMESTAMP,
    WEBHOOK_SIGNATURE,
    ATTEMPT,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
];

/// Configured headers whose values are shown; any other may carry a token under whatever name.
const HARMLESS: [HeaderName; 7] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::CONTENT_TYPE,
    header::HOST,
    header::USER_AGENT,
];

/// Configured headers, sorted by whether an event changes them.
#[derive(Clone, Debug, Default)]
pub(super) struct Configured {
    pub fixed: Fields,
    made: Vec<(HeaderName, Template)>,
}

impl Configured {
    /// Checks what can be checked without an event.
    pub(super) fn new(written: &[(HeaderName, Template)]) -> Result<Self, String> {
        let mut configured = Self::default();
        for (name, template) in written {
            if RESERVED.contains(name) {
                return Err(format!(
                    "headers: {name} is set by posthaste on each request; leave it out"
                ));
            }
            match template.fixed() {
                Some(text) => {
                    configured.fixed.append(name.clone(), value(name, text)?);
                }
                None => configured.made.push((name.clone(), template.clone())),
            }
        }
        Ok(configured)
    }

    /// Whether every value is the same for every event.
    pub(super) fn is_fixed(&self) -> bool {
        self.made.is_empty()
    }

    /// Puts the headers that are the same for every event into `headers`, in place of those of the same name.
    pub(super) fn put_fixed(&self, headers: &mut Fields) {
        for (name, _) in self.fixed.iter() {
            headers.remove(name);
        }
        for (name, value) in self.fixed.iter() {
            headers.append(name.clone(), value.clone());
        }
    }

    /// Puts the headers made from `scope` into `headers`, in place of those of the same name.
    pub(super) fn make(&self, scope: &Scope, headers: &mut Fields) -> Result<(), String> {
        for (name, template) in &self.made {
            let text = template
                .render(scope)
                .map_err(|problem| format!("headers.{name}: {problem}"))?;
            headers.insert(name.clone(), value(name, &text)?);
        }
        Ok(())
    }
}

fn value(name: &HeaderName, text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).map_err(|_| {
        format!("headers: the value of {name} holds a line break or another control character")
    })?;
    value.set_sensitive(!HARMLESS.contains(name));
    Ok(value)
}
