//! What an answer, or the lack of one, means: outcome, what the endpoint said about itself, and one sentence
//! for people. Pure; whether there is another try is not decided here.

use std::time::Duration;

use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use super::failure::Failure;
use super::fields::Fields;
use super::send::Answer;
use crate::domain::outcome::{EndpointSignal, ErrorClass, Outcome};
use crate::domain::time::Timestamp;

/// The answer header by which an endpoint governs its own deliveries.
const WEBHOOK_DELIVERY: HeaderName = HeaderName::from_static("webhook-delivery");

/// How one try is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// What the endpoint said about itself.
    pub signal: EndpointSignal,
    /// One sentence with address and cause; empty when delivered.
    pub message: String,
}

impl Verdict {
    /// There are no credentials for the request; `why` is one sentence.
    #[must_use]
    pub fn unauthorised(class: ErrorClass, why: String) -> Self {
        Self {
            outcome: Outcome::Error(class),
            signal: EndpointSignal::default(),
            message: why,
        }
    }

    /// The same but for how it ended, and why.
    #[must_use]
    pub fn with(self, outcome: Outcome, message: String) -> Self {
        Self {
            outcome,
            message,
            ..self
        }
    }

    /// The same, but delivered.
    #[must_use]
    pub fn delivered(self) -> Self {
        self.with(Outcome::Delivered, String::new())
    }

    /// The request could not be built; `why` is one sentence.
    #[must_use]
    pub fn unsendable(why: String) -> Self {
        Self::unauthorised(ErrorClass::Render, why)
    }
}

/// What has to be known of an endpoint to read its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judge {
    /// Statuses that mean delivered; empty: 200 to 299.
    pub success_status: Vec<u16>,
    /// Bound on what `Retry-After` may ask for.
    pub retry_after_max: Duration,
}

impl Judge {
    /// Reads what came of one request to `address` (`host:port`, for messages), at `now` (a `Retry-After` may be a date).
    ///
    /// An answer whose status already says no is judged by that, whatever became of its body; an answer
    /// that says yes counts only once it has come wholly (or up to the bound on its size).
    #[must_use]
    pub fn interpret(&self, sent: &Result<Answer, Failure>, address: &str, now: Timestamp) -> Verdict {
        let (answer, failure) = match sent {
            Ok(answer) => (
                Some(answer),
                answer.broken.as_ref().filter(|_| self.is_success(answer.status)),
            ),
            Err(failure) => (None, Some(failure)),
        };
        let mut signal = answer.map(|answer| self.signal(answer, now)).unwrap_or_default();
        match (failure, answer) {
            (Some(failure), _) => {
                signal.overloaded |= failure.class == ErrorClass::Timeout;
                let message = failure_message(address, failure);
                Verdict {
                    outcome: Outcome::Error(failure.class),
                    signal,
                    message,
                }
            }
            (None, Some(answer)) if !self.is_success(answer.status) => {
                let class = ErrorClass::of_status(answer.status.as_u16());
                let message = status_message(address, answer.status, &signal);
                Verdict {
                    outcome: Outcome::Error(class),
                    signal,
                    message,
                }
            }
            _ => Verdict {
                outcome: Outcome::Delivered,
                signal,
                message: String::new(),
            },
        }
    }

    fn is_success(&self, status: StatusCode) -> bool {
        match &*self.success_status {
            [] => status.is_success(),
            listed => listed.contains(&status.as_u16()),
        }
    }

    /// 410 means that the endpoint is gone, 429 and 503 that it wants less and may say for how long
    /// (Standard Webhooks 1.0.0; RFC 6585 §4; RFC 9110 §15.6.4).
    fn signal(&self, answer: &Answer, now: Timestamp) -> EndpointSignal {
        let status = answer.status;
        let overloaded = status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE;
        let says = |word| says(&answer.headers, word);
        EndpointSignal {
            retry_after: if overloaded {
                self.retry_after(&answer.headers, now)
            } else {
                None
            },
            overloaded,
            gone: status == StatusCode::GONE || says("disable"),
            abort: says("abort-message"),
        }
    }

    /// `Retry-After` as a duration from `now` on: delay in seconds or a date (RFC 9110 §10.2.3). `None` too
    /// if it asks for no delay, or for a time that has passed: that is a failure like any other then, since
    /// a try that is not counted and repeated at once would never end.
    fn retry_after(&self, headers: &Fields, now: Timestamp) -> Option<Duration> {
        let text = headers.get(&RETRY_AFTER)?.to_str().ok()?.trim();
        let asked = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                let date = httpdate::parse_http_date(text).ok()?;
                let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
                Timestamp(0).plus(since_epoch).since(now)
            }
        };
        (!asked.is_zero()).then(|| asked.min(self.retry_after_max))
    }
}

fn status_message(address: &str, status: StatusCode, signal: &EndpointSignal) -> String {
    let mut message = format!("{} answered {}", address, status.as_u16());
    if let Some(reason) = status.canonical_reason() {
        message.push(' ');
        message.push_str(reason);
    }
    if let Some(wait) = signal.retry_after {
        message.push_str(&format!(
            " and wants to be left alone for {} s",
            wait.as_secs_f64().ceil()
        ));
    }
    message
}

fn failure_message(address: &str, Failure { class, cause }: &Failure) -> String {
    match class {
        ErrorClass::Dns => format!("the host of {address} could not be resolved: {cause}"),
        ErrorClass::Tls => format!("no TLS connection with {address}: {cause}"),
        ErrorClass::Timeout => format!("{address} was too slow: {cause}"),
        ErrorClass::Reset => format!("the connection to {address} broke: {cause}"),
        ErrorClass::InvalidResponse => format!("the answer of {address} is not valid HTTP: {cause}"),
        ErrorClass::Render => format!("the request to {address} can't be sent: {cause}"),
        ErrorClass::Blocked => format!("{address} may not be connected to: {cause}"),
        _ => format!("could not connect to {address}: {cause}"),
    }
}

/// Whether one of the `webhook-delivery` headers says `word`.
fn says(headers: &Fields, word: &str) -> bool {
    let is_word = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|text| text.trim().eq_ignore_ascii_case(word))
    };
    headers.get_all(&WEBHOOK_DELIVERY).any(is_word)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    /// Sun, 06 Nov 1994 08:49:37 GMT, the example date of RFC 9110 §5.6.7.
    const NOW: Timestamp = Timestamp(784_111_777_000);

    fn judge(success_status: &[u16]) -> Judge {
        Judge {
            success_status: success_status.to_vec(),
            retry_after_max: HOUR,
        }
    }

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Answer {
        let headers = headers
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap()))
            .collect::<Fields>();
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.into(),
            body: Bytes::new(),
            is_cut: false,
            broken: None,
        }
    }

    fn failure(class: ErrorClass) -> Failure {
        Failure {
            class,
            cause: "why".to_owned(),
        }
    }

    /// E1, E2, E4: status to outcome, with and without a list of statuses that mean success.
    #[test]
    fn e2_statuses_to_outcomes() {
        let error = Outcome::Error;
        for (listed, status, expected) in [
            (&[][..], 200, Outcome::Delivered),
            (&[], 202, Outcome::Delivered),
            (&[], 299, Outcome::Delivered),
            (&[], 302, error(ErrorClass::Http3xx)),
            (&[], 304, error(ErrorClass::Http3xx)),
            (&[], 400, error(ErrorClass::Http4xx)),
            (&[], 404, error(ErrorClass::Http4xx)),
            (&[], 500, error(ErrorClass::Http5xx)),
            (&[], 599, error(ErrorClass::Http5xx)),
            (&[], 799, error(ErrorClass::Http5xx)),
            (&[200, 409], 409, Outcome::Delivered),
            (&[200, 409], 200, Outcome::Delivered),
            (&[200, 409], 204, error(ErrorClass::InvalidResponse)),
            (&[302], 302, Outcome::Delivered),
        ] {
            let verdict = judge(listed).interpret(&Ok(answer(status, &[])), "host:80", NOW);
            assert_eq!(verdict.outcome, expected, "{status} with {listed:?}");
            assert_eq!(
                verdict.message.is_empty(),
                expected == Outcome::Delivered,
                "{status} with {listed:?}"
            );
        }
        let verdict = judge(&[]).interpret(&Ok(answer(503, &[])), "host:80", NOW);
        assert_eq!(verdict.message, "host:80 answered 503 Service Unavailable");
    }

    /// F3: seconds or any of the three date forms of RFC 9110, bounded, and on 429 and 503 alone.
    #[test]
    fn f3_retry_after() {
        let minute = Some(Duration::from_secs(60));
        for (status, value, expected) in [
            (429, "60", minute),
            (503, "60", minute),
            (503, " 60 ", minute),
            (503, "Sun, 06 Nov 1994 08:50:37 GMT", minute),
            (503, "Sunday, 06-Nov-94 08:50:37 GMT", minute),
            (503, "Sun Nov  6 08:50:37 1994", minute),
            (503, "Sun, 06 Nov 1994 08:49:37 GMT", None),
            (503, "Thu, 01 Jan 1970 00:00:00 GMT", None),
            (503, "0", None),
            (503, "999999", Some(HOUR)),
            (503, "18446744073709551615", Some(HOUR)),
            (503, "99999999999999999999999", None),
            (503, "-5", None),
            (503, "soon", None),
            (500, "60", None),
            (200, "60", None),
        ] {
            let verdict =
                judge(&[]).interpret(&Ok(answer(status, &[("retry-after", value)])), "host:80", NOW);
            assert_eq!(verdict.signal.retry_after, expected, "{status} {value}");
        }
        let verdict = judge(&[]).interpret(&Ok(answer(429, &[("retry-after", "60")])), "host:80", NOW);
        assert_eq!(
            verdict.message,
            "host:80 answered 429 Too Many Requests and wants to be left alone for 60 s"
        );
    }

    /// F4, F6: what the endpoint says about itself.
    #[test]
    fn f4_signals() {
        let none = EndpointSignal::default();
        let gone = EndpointSignal { gone: true, ..none };
        let abort = EndpointSignal { abort: true, ..none };
        let overloaded = EndpointSignal {
            overloaded: true,
            ..none
        };
        for (status, header, expected) in [
            (200, None, none),
            (404, None, none),
            (410, None, gone),
            (200, Some("disable"), gone),
            (500, Some("Disable"), gone),
            (400, Some("abort-message"), abort),
            (400, Some("something-else"), none),
            (429, None, overloaded),
            (503, None, overloaded),
            (502, None, none),
        ] {
            let headers: Vec<_> = header.iter().map(|value| ("webhook-delivery", *value)).collect();
            let verdict = judge(&[]).interpret(&Ok(answer(status, &headers)), "host:80", NOW);
            assert_eq!(verdict.signal, expected, "{status} {header:?}");
        }
    }

    /// E4: each class has its sentence, with the address and the cause; only slowness asks for fewer.
    #[test]
    fn e4_failures_to_outcomes() {
        for (class, begin) in [
            (ErrorClass::Dns, "the host of host:80 could not be resolved: why"),
            (ErrorClass::Connect, "could not connect to host:80: why"),
            (ErrorClass::Tls, "no TLS connection with host:80: why"),
            (ErrorClass::Timeout, "host:80 was too slow: why"),
            (ErrorClass::Reset, "the connection to host:80 broke: why"),
            (
                ErrorClass::InvalidResponse,
                "the answer of host:80 is not valid HTTP: why",
            ),
        ] {
            let verdict = judge(&[]).interpret(&Err(failure(class)), "host:80", NOW);
            assert_eq!(verdict.outcome, Outcome::Error(class));
            assert_eq!(verdict.message, begin);
            assert_eq!(
                verdict.signal.overloaded,
                class == ErrorClass::Timeout,
                "{class:?}"
            );
        }
    }

    /// E6: a yes that broke off is no yes; a no is a no without its body.
    #[test]
    fn e6_broken_bodies() {
        for (status, expected) in [
            (200, ErrorClass::Reset),
            (503, ErrorClass::Http5xx),
            (410, ErrorClass::Http4xx),
        ] {
            let answer = Answer {
                broken: Some(failure(ErrorClass::Reset)),
                ..answer(status, &[])
            };
            let verdict = judge(&[]).interpret(&Ok(answer), "host:80", NOW);
            assert_eq!(verdict.outcome, Outcome::Error(expected), "{status}");
        }
    }
}
