//! What lines may hold and how they are judged, as tables.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    event_bytes_max: 600,
    batch_bytes_max: 1 << 20,
};

fn refused(line: &[u8]) -> Refused {
    match judge(line, &LIMITS) {
        Line::Refused(refused) => refused,
        other => panic!("{} was taken: {other:?}", String::from_utf8_lossy(line)),
    }
}

/// A3: what an event may look like; extensions are kept, escapes are understood, `null` is absent.
#[test]
fn a3_events_are_read() {
    for (line, kind, id) in [
        (r#"{"type":"contact.created"}"#, "contact.created", None),
        (r#"  {"type":"a","id":"1"} "#, "a", Some("1")),
        (r#"{"\u0074ype":"\u0061","id":"\"q\""}"#, "a", Some("\"q\"")),
        (
            r#"{"type":"a","subject":null,"data":null,"delay":null}"#,
            "a",
            None,
        ),
        (
            r#"{"type":"a","shard":7,"urgent":true,"x9":"y","empty":null}"#,
            "a",
            None,
        ),
        (
            r#"{"type":"ü","data_base64":"aGk=","time":"2026-01-15t10:30:00.5+01:00"}"#,
            "ü",
            None,
        ),
        (
            r#"{"type":"a","data_base64":"\/\/8=","specversion":"1.0"}"#,
            "a",
            None,
        ),
        (
            r#"{"type":"a","data":{"type":1,"type":2,"x":"[[[[ \" {{"}}"#,
            "a",
            None,
        ),
        (r#"{"type":"a","ack":"none"}"#, "a", None),
        (
            r#"{"type":"a","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#,
            "a",
            None,
        ),
    ] {
        let Line::Event(parsed) = judge(line.as_bytes(), &LIMITS) else {
            panic!("{line}: {:?}", judge(line.as_bytes(), &LIMITS));
        };
        assert_eq!(parsed.json, line.trim());
        assert_eq!(parsed.attributes.kind, kind, "{line}");
        assert_eq!(parsed.attributes.id.as_deref(), id, "{line}");
    }
}

/// A8: what is not an event is refused with what is wrong and how to mend it.
#[test]
fn a8_invalid_events_say_what_to_mend() {
    for (line, message) in [
        (r#"{}"#, "`type` is missing"),
        (r#"{"type":null}"#, "`type` is missing"),
        (r#"{"type":""}"#, "`type` is empty"),
        (r#"{"type":7}"#, "`type` is not a text"),
        (r#"{"type":"a\u0007"}"#, "control character"),
        (r#"{"type":"\ud800"}"#, "not a text"),
        (r#"{"type":"a","id":""}"#, "`id` is empty"),
        (r#"{"type":"a","id":null}"#, "`id` is null"),
        (r#"{"type":"a","specversion":"0.3"}"#, "not \"1.0\""),
        (r#"{"type":"a","time":"2026-01-15"}"#, "RFC 3339"),
        (r#"{"type":"a","time":"2026-02-30T00:00:00Z"}"#, "RFC 3339"),
        (r#"{"type":"a","time":"2026-02-20T00:00:00.Z"}"#, "RFC 3339"),
        (r#"{"type":"a","time":"2026-02-20 00:00:00Z"}"#, "RFC 3339"),
        (r#"{"type":"a","data":1,"data_base64":"aGk="}"#, "keep one"),
        (r#"{"type":"a","data_base64":"a"}"#, "not base64"),
        (r#"{"type":"a","type":"b"}"#, "`type` stands there twice"),
        (r#"{"type":"a","x":1,"x":2}"#, "`x` stands there twice"),
        (r#"{"type":"a","Source":"b"}"#, "did you mean `source`?"),
        (
            r#"{"type":"a","partition_key":"b"}"#,
            "did you mean `partitionkey`?",
        ),
        (r#"{"type":"a","":1}"#, "no attribute name"),
        (r#"{"type":"a","payload":{}}"#, "put it into `data`"),
        (r#"{"type":"a","delay":"5 minutes"}"#, "\"1h30m\""),
        (r#"{"type":"a","delay":"5"}"#, "\"1h30m\""),
        (r#"{"type":"a","delay":5}"#, "not a text"),
        (
            r#"{"type":"a","delay":"99999999999999999999d"}"#,
            "not a duration",
        ),
        (
            r#"{"type":"a","delay":"5m","deliverat":"2026-01-15T10:30:00Z"}"#,
            "keep one",
        ),
        (
            r#"{"type":"a","expirytime":"soon"}"#,
            "`expirytime` is not an RFC 3339",
        ),
        (r#"{"type":"a","endpoint":""}"#, "`endpoint` is empty"),
        (r#"{"type":"a","traceparent":"00-xyz"}"#, "W3C"),
        (r#"{"ack":"each","ack":"none"}"#, "`ack` stands there twice"),
        (r#"{"ack":"maybe"}"#, "\"each\", \"none\" or \"errors\""),
        ("[]", "the batch is empty"),
        (r#"[{"type":"a"},7]"#, "event 2 of 2: it is not an object"),
        (r#"[{"type":"a"},{"id":"x"}]"#, "event 2 of 2: `type` is missing"),
        ("42", "an event is an object"),
        ("\"text\"", "an event is an object"),
    ] {
        let refused = refused(line.as_bytes());
        assert_eq!(refused.code, Code::InvalidEvent, "{line}: {}", refused.message);
        assert!(refused.message.contains(message), "{line}: {}", refused.message);
    }
    let long = format!(r#"{{"type":"{}"}}"#, "a".repeat(256));
    assert!(
        refused(long.as_bytes())
            .message
            .contains("256 bytes; it may have 255")
    );
}

/// A8: what is not JSON is refused with the column.
#[test]
fn a8_invalid_json_says_where() {
    for (line, message) in [
        (&b"hello"[..], "column 1"),
        (br#"{"type":"a""#, "column 11"),
        (br#"{"type":"a"}{"type":"b"}"#, "end each event with a newline"),
        (br#"[{"type":"a"}"#, "column 13"),
        (br#"[{"type":"a"}] x"#, "trailing"),
        (br#"{"type":"a",}"#, "column 13"),
        (b"{'type':'a'}", "column 2"),
        (b"{\"type\":\"a\x01\"}", "control character"),
        (b"{\"type\":\"\xff\"}", "not UTF-8 from byte 10"),
    ] {
        let refused = refused(line);
        assert_eq!(refused.code, Code::InvalidJson, "{}", refused.message);
        assert!(refused.message.contains(message), "{}", refused.message);
    }
}

/// A8: a refusal names the event if its id can be read, whatever else is wrong.
#[test]
fn a8_a_refusal_carries_the_id() {
    for (line, id) in [
        (r#"{"id":"e1"}"#, Some("e1")),
        (r#"{"Bad":1,"type":"a","id":"e2"}"#, Some("e2")),
        (r#"{"type":"a","id":7}"#, None),
        (r#"[{"type":"a"},{"id":"e3"}]"#, Some("e3")),
    ] {
        assert_eq!(refused(line.as_bytes()).id.as_deref(), id, "{line}");
    }
}

/// A4, I5: bounds on what a line may hold.
#[test]
fn i5_lines_are_bounded_inside_too() {
    let fat = format!(r#"[{{"type":"a","data":"{}"}}]"#, "x".repeat(600));
    let alone = fat.trim_matches(['[', ']']).to_owned();
    let many = format!("[{}1]", "1,".repeat(BATCH_EVENTS_MAX));
    let wide: String = (0..=MEMBERS_MAX).map(|n| format!(r#","x{n}":1"#)).collect();
    let deep = |levels: usize| {
        format!(
            r#"{{"type":"a","data":{}{}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    for (line, code, message) in [
        (fat, Code::TooLarge, "event 1 of 1: it is longer than 600 bytes"),
        (alone, Code::TooLarge, "the event is longer than 600 bytes"),
        (many, Code::TooLarge, "at most 10000 events"),
        (
            format!(r#"{{"type":"a"{wide}}}"#),
            Code::InvalidEvent,
            "at most 64",
        ),
        (deep(DEPTH_MAX + 1), Code::InvalidEvent, "too deep"),
    ] {
        let refused = refused(line.as_bytes());
        assert_eq!(refused.code, code, "{}", refused.message);
        assert!(refused.message.contains(message), "{}", refused.message);
    }
    assert!(matches!(
        judge(deep(DEPTH_MAX).as_bytes(), &LIMITS),
        Line::Event(_)
    ));
    let side_by_side = format!(r#"{{"type":"a","data":[{}[]]}}"#, "[],".repeat(80));
    assert!(matches!(judge(side_by_side.as_bytes(), &LIMITS), Line::Event(_)));
}

/// A1: the control line, and an event that merely has an `ack`.
#[test]
fn a1_control_lines() {
    for (line, ack) in [
        (r#"{"ack":"each"}"#, Ack::Each),
        (r#"{"ack":"none"}"#, Ack::None),
        (r#" { "ack" : "errors" }"#, Ack::Errors),
    ] {
        assert_eq!(judge(line.as_bytes(), &LIMITS), Line::Control(ack));
    }
}

/// A4: a batch keeps the order and the bytes of its events.
#[test]
fn a4_batches_are_read() {
    let line = br#"[ {"type":"a", "id":"1"} , {"type":"b"} ]"#;
    let Line::Batch(batch) = judge(line, &LIMITS) else {
        panic!("not a batch");
    };
    let texts: Vec<&str> = batch.iter().map(|parsed| parsed.json).collect();
    assert_eq!(texts, [r#"{"type":"a", "id":"1"}"#, r#"{"type":"b"}"#]);
}

proptest! {
    /// A8: no bytes make it panic, and whatever is taken as an event is JSON with that type.
    #[test]
    fn a8_any_bytes_are_judged(line in prop::collection::vec(any::<u8>(), 1..120)) {
        let _ = judge(&line, &LIMITS);
    }

    /// The same for texts that are nearly events, which random bytes hardly ever are.
    #[test]
    fn a8_near_events_are_judged(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"type\"", "\"id\"", "\"ack\"", "\"data\"", "\"a\"", "1",
                "null", "\"delay\"", "\"5m\"", "\"\\u0061\"", "\\", "\"", " ", "é",
            ]),
            1..20,
        ),
    ) {
        let line = parts.concat();
        if let Line::Event(parsed) = judge(line.as_bytes(), &LIMITS) {
            let value: serde_json::Value = serde_json::from_str(parsed.json)?;
            prop_assert_eq!(value["type"].as_str(), Some(&*parsed.attributes.kind));
        }
    }
}
