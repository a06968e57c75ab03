//! What is kept of one try for people to see: bounded, secrets masked. Pure.

use std::time::Duration;

use http::header::{HeaderMap, SET_COOKIE};

use super::Tried;
use super::interpret::Verdict;
use super::send::Answer;
use crate::domain::endpoint::RequestPolicy;
use crate::domain::outcome::{Attempt, EXCERPT_BYTES_MAX, Exchange, Outcome};
use crate::domain::time::Timestamp;

/// What a masked value is shown as.
const MASK: &str = "[secret]";

/// Writes down one endpoint's tries.
#[derive(Clone, Debug)]
pub struct Witness {
    request_line: Box<str>,
}

impl Witness {
    /// Prepares the part that is the same for every try.
    #[must_use]
    pub fn new(policy: &RequestPolicy) -> Self {
        Self {
            request_line: format!("{} {}", policy.method, policy.url_masked).into(),
        }
    }

    /// The try's evidence with `verdict`. `headers`: those of the request, `None` if it could not be made;
    /// `answer`: what came back, if anything. Of a delivered event only the numbers are kept, so that
    /// success, which is nearly all there is, costs nothing here.
    #[must_use]
    pub fn report(
        &self,
        number: u32,
        started: Timestamp,
        took: Duration,
        headers: Option<&HeaderMap>,
        answer: Option<&Answer>,
        verdict: Verdict,
    ) -> Tried {
        let mut attempt = Attempt {
            number,
            started,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            outcome: verdict.outcome,
            status: answer.map(|answer| answer.status.as_u16()),
            message: verdict.message,
            request_line: String::new(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            response_excerpt: String::new(),
        };
        if verdict.outcome != Outcome::Delivered {
            attempt.request_line = self.request_line.to_string();
            attempt.request_headers = headers.map(listed).unwrap_or_default();
            attempt.response_headers = answer.map(|answer| listed(&answer.headers)).unwrap_or_default();
            attempt.response_excerpt = answer.map(|answer| excerpt(&answer.body)).unwrap_or_default();
        }
        Tried {
            attempt,
            signal: verdict.signal,
            exchange: Exchange::default(),
            items: None,
        }
    }
}

/// The headers as text, as many as fit into [`EXCERPT_BYTES_MAX`]; sensitive ones and cookies masked.
fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut room = EXCERPT_BYTES_MAX;
    let mut list = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let masked = value.is_sensitive() || name == SET_COOKIE;
        let text = if masked {
            MASK.to_owned()
        } else {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        match room.checked_sub(name.as_str().len() + text.len()) {
            Some(left) => room = left,
            None => break,
        }
        list.push((name.to_string(), text));
    }
    list
}

/// The beginning of `body` as text, at most [`EXCERPT_BYTES_MAX`] bytes of it.
fn excerpt(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES_MAX)]).into_owned();
    text.truncate(text.floor_char_boundary(EXCERPT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn e6_excerpts_are_bounded_text() {
        assert_eq!(excerpt(b"all of it"), "all of it");
        for body in [
            vec![b'a'; 100_000],
            vec![0xff; 100_000],
            "ü".repeat(50_000).into_bytes(),
            {
                let mut odd = vec![b'a'];
                odd.extend("ü".repeat(50_000).bytes());
                odd
            },
        ] {
            let text = excerpt(&body);
            assert!(
                (EXCERPT_BYTES_MAX - 3..=EXCERPT_BYTES_MAX).contains(&text.len()),
                "{}",
                text.len()
            );
        }
    }

    /// C6: neither sensitive values nor cookies are shown, and the list is bounded.
    #[test]
    fn c6_listed_headers_are_masked_and_bounded() {
        let mut headers = HeaderMap::new();
        let mut secret = HeaderValue::from_static("hunter2");
        secret.set_sensitive(true);
        headers.insert("x-key", secret);
        headers.insert("set-cookie", HeaderValue::from_static("session=hunter2"));
        headers.insert("x-open", HeaderValue::from_static("shown"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            listed(&headers),
            [
                pair("x-key", MASK),
                pair("set-cookie", MASK),
                pair("x-open", "shown")
            ]
        );

        for n in 0..1000 {
            headers.append("x-many", HeaderValue::from(n));
        }
        let bytes: usize = listed(&headers)
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(bytes <= EXCERPT_BYTES_MAX, "{bytes}");
    }
}
