//! What is written back: one JSON object a line, written straight into the bytes that go out. The names
//! are the protocol's. Pure.

use super::frame::{Ack, Refused};

/// Appends `text` as a JSON string.
pub fn string(out: &mut Vec<u8>, text: &str) {
    // Ids and types seldom hold anything that JSON escapes.
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing a string into memory can't fail.
        let _ = serde_json::to_writer(out, text);
    }
}

fn number(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// An event is on disk with everything it owes. `id` is a JSON string.
pub fn accepted(out: &mut Vec<u8>, id: &[u8], deliveries: u64) {
    out.extend_from_slice(b"{\"status\":\"accepted\",\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"deliveries\":");
    number(out, deliveries);
    out.extend_from_slice(b"}\n");
}

/// An event was accepted before. `id` is a JSON string.
pub fn duplicate(out: &mut Vec<u8>, id: &[u8]) {
    out.extend_from_slice(b"{\"status\":\"duplicate\",\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b"}\n");
}

/// A batch is on disk, except for `duplicates` of its events that were accepted before. `ids` are JSON
/// strings with commas between them.
pub fn batch_accepted(out: &mut Vec<u8>, ids: &[u8], deliveries: u64, duplicates: u64) {
    out.extend_from_slice(b"{\"status\":\"accepted\",\"ids\":[");
    out.extend_from_slice(ids);
    out.extend_from_slice(b"],\"deliveries\":");
    number(out, deliveries);
    if duplicates > 0 {
        out.extend_from_slice(b",\"duplicates\":");
        number(out, duplicates);
    }
    out.extend_from_slice(b"}\n");
}

/// Every event of a batch was accepted before.
pub fn batch_duplicate(out: &mut Vec<u8>, ids: &[u8]) {
    out.extend_from_slice(b"{\"status\":\"duplicate\",\"ids\":[");
    out.extend_from_slice(ids);
    out.extend_from_slice(b"]}\n");
}

/// A control line holds from here on.
pub fn control(out: &mut Vec<u8>, ack: Ack) {
    out.extend_from_slice(b"{\"status\":\"accepted\",\"ack\":\"");
    out.extend_from_slice(ack.name().as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// A line was not taken; `line` is its number in the connection, from 1.
pub fn rejected(out: &mut Vec<u8>, refused: &Refused, line: u64) {
    out.extend_from_slice(b"{\"status\":\"rejected\",\"code\":\"");
    out.extend_from_slice(refused.code.name().as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    string(out, &refused.message);
    if let Some(id) = &refused.id {
        out.extend_from_slice(b",\"id\":");
        string(out, id);
    }
    out.extend_from_slice(b",\"line\":");
    number(out, line);
    if let Some(retry_after_ms) = refused.retry_after_ms {
        out.extend_from_slice(b",\"retry_after_ms\":");
        number(out, retry_after_ms);
    }
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::frame::Code;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// A1, A4, A5, A8: the answers, byte for byte.
    #[test]
    fn a1_answers_are_the_contract_s() {
        let refused = |code, id: Option<&str>| Refused::new(code, "so \"what\"").about(id);
        for (answer, expected) in [
            (
                written(|out| accepted(out, b"\"a\"", 2)),
                r#"{"status":"accepted","id":"a","deliveries":2}"#,
            ),
            (
                written(|out| duplicate(out, b"\"a\"")),
                r#"{"status":"duplicate","id":"a"}"#,
            ),
            (
                written(|out| batch_accepted(out, b"\"a\",\"b\"", 5, 0)),
                r#"{"status":"accepted","ids":["a","b"],"deliveries":5}"#,
            ),
            (
                written(|out| batch_accepted(out, b"\"a\",\"b\"", 10, 1)),
                r#"{"status":"accepted","ids":["a","b"],"deliveries":10,"duplicates":1}"#,
            ),
            (
                written(|out| batch_duplicate(out, b"\"a\"")),
                r#"{"status":"duplicate","ids":["a"]}"#,
            ),
            (
                written(|out| control(out, Ack::Errors)),
                r#"{"status":"accepted","ack":"errors"}"#,
            ),
            (
                written(|out| rejected(out, &refused(Code::InvalidEvent, Some("x\\")), 7)),
                r#"{"status":"rejected","code":"invalid_event","message":"so \"what\"","id":"x\\","line":7}"#,
            ),
            (
                written(|out| rejected(out, &refused(Code::QueueFull, None), 12)),
                r#"{"status":"rejected","code":"queue_full","message":"so \"what\"","line":12,"retry_after_ms":5000}"#,
            ),
            (
                written(|out| rejected(out, &refused(Code::ShuttingDown, None), 0)),
                r#"{"status":"rejected","code":"shutting_down","message":"so \"what\"","line":0,"retry_after_ms":1000}"#,
            ),
        ] {
            assert_eq!(answer, format!("{expected}\n"));
        }
    }

    #[test]
    fn numbers_are_written_whole() {
        for value in [0, 9, 10, 1234567890, u64::MAX] {
            assert_eq!(written(|out| number(out, value)), value.to_string());
        }
    }
}
