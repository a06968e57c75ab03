//! How long the texts in records may be. Those who write them keep to narrower bounds; these hold whatever
//! comes, because up to sixteen records share a page of the store, and a page past 512 KiB would leave the
//! log for a file that is never made durable. Pure.

use super::{AttemptEntry, DeadEvidence, Pause, SettleTo};
use crate::domain::outcome::{Attempt, EXCERPT_BYTES_MAX};

/// Bytes of one text, unless it is an excerpt.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of the message of a try in the log.
const LOGGED_MESSAGE_BYTES_MAX: usize = 256;
/// Headers of a request or an answer; each costs some bytes beside its own.
const HEADERS_MAX: usize = 256;

/// What can be cut off at a byte.
trait Text {
    fn bytes(&self) -> &str;
    fn cut(&mut self, end: usize);
}

impl Text for String {
    fn bytes(&self) -> &str {
        self
    }
    fn cut(&mut self, end: usize) {
        self.truncate(end);
    }
}

impl Text for Box<str> {
    fn bytes(&self) -> &str {
        self
    }
    fn cut(&mut self, end: usize) {
        *self = self[..end].into();
    }
}

/// Cuts a text to at most `bytes_max`, between two characters.
fn cut(text: &mut impl Text, bytes_max: usize) {
    if text.bytes().len() > bytes_max {
        let end = text.bytes().floor_char_boundary(bytes_max);
        text.cut(end);
    }
}

/// Keeps the first headers, as many as fit into `bytes_max`.
fn cut_headers(headers: &mut Vec<(String, String)>, bytes_max: usize) {
    let mut bytes = 0;
    let fitting = headers.iter().take(HEADERS_MAX).take_while(|(name, value)| {
        bytes += name.len() + value.len();
        bytes <= bytes_max
    });
    headers.truncate(fitting.count());
}

/// A pause as it is kept.
pub fn pause(mut pause: Pause) -> Pause {
    cut(&mut pause.by, TEXT_BYTES_MAX);
    cut(&mut pause.reason, TEXT_BYTES_MAX);
    pause
}

/// A move as it is kept.
pub fn settle_to(mut to: SettleTo) -> SettleTo {
    match &mut to {
        SettleTo::Settled => {}
        SettleTo::Later(deferral) => cut(&mut deferral.last_message, TEXT_BYTES_MAX),
        SettleTo::Dead(evidence) => cut_evidence(evidence),
    }
    to
}

fn cut_evidence(evidence: &mut DeadEvidence) {
    for text in [
        &mut evidence.event_id,
        &mut evidence.event_source,
        &mut evidence.event_kind,
    ] {
        cut(text, TEXT_BYTES_MAX);
    }
    if let Some(last) = &mut evidence.last {
        cut_attempt(last);
    }
}

fn cut_attempt(attempt: &mut Attempt) {
    cut(&mut attempt.message, TEXT_BYTES_MAX);
    cut(&mut attempt.request_line, 2 * TEXT_BYTES_MAX);
    cut(&mut attempt.response_excerpt, EXCERPT_BYTES_MAX);
    cut_headers(&mut attempt.request_headers, EXCERPT_BYTES_MAX);
    cut_headers(&mut attempt.response_headers, EXCERPT_BYTES_MAX);
}

/// A try as the log keeps it. Narrower than a dead letter, because there are so many of them.
pub fn logged(mut entry: Box<AttemptEntry>) -> Box<AttemptEntry> {
    for text in [
        &mut entry.event_id,
        &mut entry.event_source,
        &mut entry.event_kind,
    ]
    .into_iter()
    .chain(&mut entry.batch)
    {
        cut(text, TEXT_BYTES_MAX);
    }
    let attempt = &mut entry.attempt;
    cut(&mut attempt.message, LOGGED_MESSAGE_BYTES_MAX);
    cut(&mut attempt.request_line, TEXT_BYTES_MAX);
    cut(&mut attempt.response_excerpt, TEXT_BYTES_MAX);
    cut_headers(&mut attempt.request_headers, TEXT_BYTES_MAX);
    cut_headers(&mut attempt.response_headers, TEXT_BYTES_MAX);
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_two_characters() {
        for (text, bytes_max, wanted) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "abc"),
            ("aéé", 3, "aé"),
            ("aéé", 4, "aé"),
            ("é", 1, ""),
        ] {
            let (mut boxed, mut string) = (Box::<str>::from(text), text.to_owned());
            cut(&mut boxed, bytes_max);
            cut(&mut string, bytes_max);
            assert_eq!((&*boxed, &*string), (wanted, wanted), "{text} to {bytes_max}");
        }
    }

    #[test]
    fn the_first_headers_that_fit_are_kept() {
        let header = |bytes: usize| ("x".to_owned(), "y".repeat(bytes));
        for (headers, kept) in [
            (vec![header(1); 300], HEADERS_MAX),
            (vec![header(2000); 3], 2),
            (vec![header(5000), header(1)], 0),
        ] {
            let mut cut = headers.clone();
            cut_headers(&mut cut, EXCERPT_BYTES_MAX);
            assert_eq!(cut, headers[..kept]);
        }
    }
}
