//! What is kept of one try for people to see: bounded, secrets masked. Pure.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::SET_COOKIE;

use super::fields::Fields;
use super::reading::Reading;
use super::render::OutgoingRequest;
use super::scene::Load;
use super::send::Answer;
use super::{Tried, Unsent};
use crate::domain::kept::Kept;
use crate::domain::outcome::{Attempt, Detail, EXCERPT_BYTES_MAX, Exchange};
use crate::template::quote;

/// What a masked value is shown as.
const MASK: &str = "[secret]";
/// A shorter value is not looked for in answers: it would be found in every other word.
const ECHO_BYTES_MIN: usize = 6;

/// What is known of a try beside its answer; of one that worked only what [`Detail`] asks for and what is captured needs.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    /// Of which tries the report tells what was said.
    pub detail: Detail,
    /// `POST https://example.com/hook`, secrets masked.
    pub request_line: String,
    /// Request headers, secrets masked; none if it could not be made.
    pub request_headers: Vec<(String, String)>,
    /// What of the request must not be shown.
    pub secrets: Vec<String>,
}

impl Witness {
    /// Of a request; its line is shown by whoever made it. `hidden`: secrets that may stand in it unmarked.
    #[must_use]
    pub fn of(request: &OutgoingRequest, detail: Detail, hidden: &[Box<str>]) -> Self {
        Self {
            detail,
            request_line: String::new(),
            request_headers: listed(&request.headers, &[]),
            secrets: secrets(request, hidden),
        }
    }

    /// The evidence of a try that never left.
    pub(super) fn unsent(self, load: &Load<'_>, took: Duration, unsent: Unsent) -> Tried {
        let mut tried = self.report(load, took, None, unsent.verdict.into());
        tried.attempt.status = unsent.status;
        tried
    }

    /// The try's evidence with what the answer comes to by `reading`; `answer`: what came back, if anything. Of a delivered event only the
    /// numbers are kept unless `detail` wants more, so that success, which is nearly all there is, costs nothing here.
    #[must_use]
    pub fn report(self, load: &Load<'_>, took: Duration, answer: Option<&Answer>, reading: Reading) -> Tried {
        let is_told = self.detail == Detail::All || !reading.is_delivered();
        let Reading {
            verdict,
            mut items,
            captured,
            emissions,
        } = reading;
        let mut attempt = Attempt {
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            status: answer.map(|answer| answer.status.as_u16()),
            message: verdict.message,
            ..Attempt::new(load.number, load.now, verdict.outcome)
        };
        let secrets = self.secrets;
        if is_told {
            attempt.request_line = self.request_line;
            attempt.request_headers = self.request_headers;
            attempt.response_headers = answer
                .map(|answer| listed(&answer.headers, &secrets))
                .unwrap_or_default();
            attempt.response_excerpt = answer
                .map(|answer| hide(excerpt(&answer.body), &secrets))
                .unwrap_or_default();
            attempt.message = hide(attempt.message, &secrets);
            for item in items.iter_mut().flatten() {
                item.message = hide(std::mem::take(&mut item.message), &secrets);
            }
        }
        if !captured.is_empty() {
            attempt.kept = Some(Box::new(Kept {
                captured: hide(captured, &secrets).into(),
                ..Kept::default()
            }));
        }
        Tried {
            attempt,
            signal: verdict.signal,
            exchange: Exchange::default(),
            items,
            emissions,
        }
    }
}

/// What an answer may repeat of a request and must not be shown: values of sensitive headers, the token or password in
/// them alone too, what stands in the URL's query, and what is `hidden`; each also as it stands in JSON.
pub(super) fn secrets(request: &OutgoingRequest, hidden: &[Box<str>]) -> Vec<String> {
    let values = request.headers.iter().map(|(_, value)| value);
    let sensitive = values.filter(|value| value.is_sensitive());
    let values = sensitive
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| {
            let token = text.rsplit_once(' ').map_or(text, |(_, token)| token);
            [text, token, &password(text)].map(str::to_owned)
        });
    let url = &request.url;
    let pairs = url.query().unwrap_or_default().split('&');
    let encoded = pairs.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value).to_owned());
    let decoded = url.query_pairs().map(|(_, value)| value.into_owned());
    let mut secrets: Vec<String> = values
        .chain(encoded)
        .chain(decoded)
        .chain(hidden.iter().map(|secret| secret.to_string()))
        .filter(|secret| secret.len() >= ECHO_BYTES_MIN)
        .collect();
    let in_json = secrets.iter().filter_map(|secret| escaped(secret));
    secrets.extend(in_json.collect::<Vec<_>>());
    // The longest first, for a part of it may be another one.
    secrets.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    secrets.dedup();
    secrets
}

/// `secret` as it stands between JSON's quotes, where that may be another text: most hold nothing to escape.
fn escaped(secret: &str) -> Option<String> {
    let is_special = |c: char| matches!(c, '"' | '\\') || c.is_control();
    secret.find(is_special)?;
    let mut json = String::new();
    quote(secret, &mut json);
    Some(json.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

/// The password in basic credentials (RFC 7617); empty if they are none.
fn password(credentials: &str) -> String {
    let decoded = credentials
        .strip_prefix("Basic ")
        .and_then(|encoded| BASE64_STANDARD.decode(encoded).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|pair| pair.split_once(':'));
    pair.map(|(_, password)| password.to_owned()).unwrap_or_default()
}

/// `text` with every secret masked.
pub(super) fn hide(text: String, secrets: &[String]) -> String {
    secrets
        .iter()
        .filter(|secret| !MASK.contains(secret.as_str()))
        .fold(text, |text, secret| match text.contains(secret.as_str()) {
            true => text.replace(secret.as_str(), MASK),
            false => text,
        })
}

/// The headers as text, as many as fit into [`EXCERPT_BYTES_MAX`]; sensitive ones, cookies and `secrets` masked.
pub(super) fn listed(headers: &Fields, secrets: &[String]) -> Vec<(String, String)> {
    let mut room = EXCERPT_BYTES_MAX;
    let mut list = Vec::with_capacity(headers.len());
    for (name, value) in headers.iter() {
        let masked = value.is_sensitive() || name == SET_COOKIE;
        let text = if masked {
            MASK.to_owned()
        } else {
            hide(String::from_utf8_lossy(value.as_bytes()).into_owned(), secrets)
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
pub(super) fn excerpt(body: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_BYTES_MAX)]).into_owned();
    text.truncate(text.floor_char_boundary(EXCERPT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

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

    /// C6: an endpoint that repeats what it was sent does not get our secrets into the evidence.
    #[test]
    fn c6_what_an_answer_repeats_is_masked() {
        let mut token = HeaderValue::from_static("Bearer tok-hunter2");
        token.set_sensitive(true);
        let mut headers = Fields::default();
        headers.insert(HeaderName::from_static("authorization"), token);
        let mut basic = HeaderValue::from_static("Basic dXNlci0xOnBhc3Mtd29yZA==");
        basic.set_sensitive(true);
        headers.insert(HeaderName::from_static("proxy-authorization"), basic);
        headers.insert(
            HeaderName::from_static("x-open"),
            HeaderValue::from_static("shown-value"),
        );
        let request = OutgoingRequest {
            method: http::Method::POST,
            url: "https://example.com/hook?key=a%20secret&n=1".parse().unwrap(),
            headers,
            body: bytes::Bytes::new(),
        };
        let hidden = ["in \"body\"".into(), "short".into()];
        let secrets = secrets(&request, &hidden);
        for (text, wanted) in [
            ("in \"body\"!", "[secret]!"),
            (
                r#"{"error":"in \"body\" short"}"#,
                r#"{"error":"[secret] short"}"#,
            ),
            ("got Bearer tok-hunter2!", "got [secret]!"),
            ("token=tok-hunter2", "token=[secret]"),
            (
                "Cannot POST /hook?key=a%20secret&n=1",
                "Cannot POST /hook?key=[secret]&n=1",
            ),
            ("key is a secret", "key is [secret]"),
            ("user-1 pass-word", "user-1 [secret]"),
            ("shown-value 1", "shown-value 1"),
        ] {
            assert_eq!(hide(text.to_owned(), &secrets), wanted);
        }
    }

    /// C6: neither sensitive values nor cookies are shown, and the list is bounded.
    #[test]
    fn c6_listed_headers_are_masked_and_bounded() {
        let mut headers = Fields::default();
        let mut secret = HeaderValue::from_static("hunter2");
        secret.set_sensitive(true);
        headers.insert(HeaderName::from_static("x-key"), secret);
        headers.insert(
            HeaderName::from_static("set-cookie"),
            HeaderValue::from_static("session=hunter2"),
        );
        headers.insert(
            HeaderName::from_static("x-open"),
            HeaderValue::from_static("shown"),
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            listed(&headers, &[]),
            [
                pair("x-key", MASK),
                pair("set-cookie", MASK),
                pair("x-open", "shown")
            ]
        );

        for n in 0..1000 {
            headers.append(HeaderName::from_static("x-many"), HeaderValue::from(n));
        }
        let bytes: usize = listed(&headers, &[])
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(bytes <= EXCERPT_BYTES_MAX, "{bytes}");
    }
}
