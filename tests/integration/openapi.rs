//! The API's own description, held to what the daemon really answers.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::client::{Answer, At, ask};
use crate::harness::servers::Target;
use crate::harness::{Daemon, Setup, endpoint, event};

/// What of `value` is not as `schema` says: every required field is there, every field is described, every type fits.
pub fn differences(value: &Value, schema: &Value, document: &Value, at: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        return differences(value, document.pointer(pointer).unwrap(), document, at);
    }
    for (word, all) in [("anyOf", false), ("oneOf", false), ("allOf", true)] {
        if let Some(choices) = schema[word].as_array() {
            let each: Vec<_> = choices
                .iter()
                .map(|one| differences(value, one, document, at))
                .collect();
            return if all {
                each.concat()
            } else if each.iter().any(Vec::is_empty) {
                Vec::new()
            } else {
                each.into_iter().min_by_key(Vec::len).unwrap_or_default()
            };
        }
    }
    let mut found = Vec::new();
    if let Some(constant) = schema.get("const").filter(|constant| *constant != value) {
        found.push(format!("{at}: {value} is not {constant}"));
    }
    if schema["enum"]
        .as_array()
        .is_some_and(|known| !known.contains(value))
    {
        found.push(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    if !fits(value, &schema["type"]) {
        return vec![format!("{at}: {value} is no {}", schema["type"])];
    }
    if let (Value::Object(fields), Value::Object(known)) = (value, &schema["properties"]) {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let missing = required
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| !fields.contains_key(*name));
        found.extend(missing.map(|name| format!("{at}.{name} is missing")));
        for (name, inner) in fields {
            match known.get(name) {
                Some(schema) => found.extend(differences(inner, schema, document, &format!("{at}.{name}"))),
                None => found.push(format!("{at}.{name} is not described")),
            }
        }
    } else if let (Value::Object(fields), Some(schema)) = (value, schema.get("additionalProperties")) {
        let each = fields.iter();
        found.extend(
            each.flat_map(|(name, inner)| differences(inner, schema, document, &format!("{at}.{name}"))),
        );
    }
    if let (Value::Array(items), Some(schema)) = (value, schema.get("items")) {
        let each = items.iter().enumerate();
        found.extend(each.flat_map(|(n, item)| differences(item, schema, document, &format!("{at}[{n}]"))));
    }
    found
}

fn fits(value: &Value, kind: &Value) -> bool {
    match kind {
        Value::Array(kinds) => kinds.iter().any(|kind| fits(value, kind)),
        Value::String(kind) => match kind.as_str() {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("no such type: {other}"),
        },
        _ => true,
    }
}

/// Holds an answer to what the document says of it: its type, and if that is JSON, every field.
fn assert_described(document: &Value, method: &str, path: &str, answer: &Answer) {
    let status = answer.status;
    let responses = &document["paths"][path][method]["responses"];
    let response = match responses.get(status.to_string()) {
        Some(response) => response,
        None if status >= 400 => &document["components"]["responses"]["error"],
        None => panic!("{method} {path}: {status} is not described: {answer:?}"),
    };
    let media_type = answer
        .header("content-type")
        .split(';')
        .next()
        .unwrap_or_default();
    let schema = &response["content"][media_type]["schema"];
    assert!(
        !schema.is_null(),
        "{method} {path} {status}: no schema of {media_type}"
    );
    let value = answer.json();
    let found = differences(&value, schema, document, "");
    assert!(
        found.is_empty(),
        "{method} {path} {status}: {found:#?}\n{value:#}"
    );
}

/// What may be asked for by this document: `get /v1/status` and so on.
fn operations(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap().iter();
    let each = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| format!("{method} {path}"))
    });
    each.collect()
}

/// Described, but not asked here, and why.
const ELSEWHERE: [(&str, &str); 1] = [("get /v1/live", "it never ends; live.rs listens to it")];

/// H8: real answers, good and bad, are as the document says, field by field.
#[test]
fn h8_answers_are_as_described() {
    let target = Target::new();
    let text = endpoint("good", &target.url("/ok"), "events = [\"a\"]")
        + &endpoint("bad", &target.url("/status/404"), "events = [\"b\"]")
        + &endpoint(
            "slow",
            &target.url("/status/500"),
            "events = [\"c\"]\nretry = { delay = \"1h\" }",
        );
    let parked = |name: &str| endpoint(name, &target.url("/ok"), "events = [\"d\"]\nenabled = false");
    let daemon = Daemon::start(&(text.clone() + &parked("moved") + &parked("buried")));
    for (kind, id) in [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")] {
        daemon.accept(&event(kind, id));
    }
    daemon.write_config(&text);
    let letter = daemon.until_dead("bad", 1).remove(0);
    let letter = letter["id"].as_str().unwrap();
    daemon.until_row("slow", "deferred", |row| {
        row["deferred"] == 1 && row["in_flight"] == 0
    });
    let (_, document) = daemon.get("/v1/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let mut asked = BTreeSet::new();
    let own = json!({ "url": target.url("/own"), "enabled": false }).to_string();
    let by_id = json!({ "ids": [letter] }).to_string();
    let by_data = json!({ "ids": [letter], "data": 1, "dry_run": true }).to_string();
    for (method, template, path, body, status) in [
        ("post", "/v1/reload", "/v1/reload", "", 200),
        ("get", "/healthz", "/healthz", "", 200),
        ("get", "/readyz", "/readyz", "", 200),
        ("get", "/metrics", "/metrics", "", 200),
        ("get", "/v1/openapi.json", "/v1/openapi.json", "", 200),
        ("get", "/v1/attempts", "/v1/attempts", "", 200),
        ("get", "/v1/attempts", "/v1/attempts?class=slow", "", 400),
        (
            "get",
            "/v1/endpoints",
            "/v1/endpoints?state=ready&type=b",
            "",
            200,
        ),
        ("get", "/v1/endpoints", "/v1/endpoints?state=busy", "", 400),
        (
            "post",
            "/v1/explain",
            "/v1/explain",
            r#"{"event":{"type":"b"}}"#,
            200,
        ),
        ("post", "/v1/explain", "/v1/explain", "{}", 400),
        (
            "post",
            "/v1/endpoints/{name}/test",
            "/v1/endpoints/good/test",
            "",
            200,
        ),
        (
            "post",
            "/v1/endpoints/{name}/move",
            "/v1/endpoints/moved/move",
            "{\"to\":\"good\"}",
            200,
        ),
        (
            "post",
            "/v1/endpoints/{name}/bury",
            "/v1/endpoints/buried/bury",
            "",
            200,
        ),
        ("get", "/v1/status", "/v1/status", "", 200),
        ("get", "/v1/events/{id}", "/v1/events/2", "", 200),
        ("get", "/v1/events/{id}", "/v1/events/3", "", 200),
        ("get", "/v1/events/{id}", "/v1/events/none", "", 404),
        ("get", "/v1/endpoints", "/v1/endpoints?limit=1", "", 200),
        ("put", "/v1/endpoints/{name}", "/v1/endpoints/own", &own, 201),
        ("put", "/v1/endpoints/{name}", "/v1/endpoints/own", &own, 200),
        ("put", "/v1/endpoints/{name}", "/v1/endpoints/own", "{}", 422),
        ("patch", "/v1/endpoints/{name}", "/v1/endpoints/own", "{}", 200),
        ("get", "/v1/endpoints/{name}", "/v1/endpoints/own", "", 200),
        ("delete", "/v1/endpoints/{name}", "/v1/endpoints/good", "", 409),
        ("delete", "/v1/endpoints/{name}", "/v1/endpoints/own", "", 200),
        (
            "post",
            "/v1/endpoints/{name}/pause",
            "/v1/endpoints/good/pause",
            "{\"for\":\"1h\"}",
            200,
        ),
        (
            "post",
            "/v1/endpoints/{name}/resume",
            "/v1/endpoints/good/resume",
            "",
            200,
        ),
        (
            "post",
            "/v1/endpoints/{name}/flush",
            "/v1/endpoints/slow/flush",
            "",
            200,
        ),
        (
            "post",
            "/v1/endpoints/{name}/move",
            "/v1/endpoints/good/move",
            "{\"to\":\"bad\"}",
            409,
        ),
        (
            "post",
            "/v1/endpoints/{name}/bury",
            "/v1/endpoints/nobody/bury",
            "",
            404,
        ),
        ("get", "/v1/dead", "/v1/dead?with=event", "", 200),
        ("get", "/v1/dead/{id}", &format!("/v1/dead/{letter}"), "", 200),
        ("get", "/v1/dead", "/v1/dead?limit=0", "", 400),
        ("post", "/v1/dead/replay", "/v1/dead/replay", &by_data, 200),
        ("post", "/v1/dead/purge", "/v1/dead/purge", &by_id, 200),
        ("get", "/v1/config", "/v1/config", "", 200),
        ("get", "/v1/quarantine", "/v1/quarantine", "", 200),
        (
            "post",
            "/v1/events",
            "/v1/events",
            r#"{"type":"a","id":"9"}"#,
            202,
        ),
        (
            "post",
            "/v1/events",
            "/v1/events",
            r#"{"type":"a","id":"9"}"#,
            200,
        ),
        ("post", "/v1/events", "/v1/events", r#"[{"type":"a"}]"#, 202),
        ("post", "/v1/events", "/v1/events", "{}", 400),
    ] {
        let answer = daemon.ask(&method.to_uppercase(), path, &[], body.to_owned());
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert_described(&document, method, template, &answer);
        asked.insert(format!("{method} {template}"));
    }
    asked.extend(ELSEWHERE.map(|(operation, _)| operation.to_owned()));
    assert_eq!(asked, operations(&document), "every operation is asked for");
}

/// H8: what stands before every handler answers as described, too: who may not, what is too large, and what is no event.
#[test]
fn h8_refusals_are_as_described() {
    let target = Target::new();
    let all = endpoint("all", &target.url("/ok"), "");
    let me = rustix::process::getuid().as_raw();
    let daemon = Setup::new(&format!("[log]\nformat = \"json\"\n{all}"))
        .control(&format!(
            "listen = \"127.0.0.1:0\"\ntoken = \"correct-horse-battery\"\nreaders = [\"uid:{me}\"]"
        ))
        .start();
    let log = daemon.log();
    let mut lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let address: SocketAddr = lines
        .find_map(|line| line["address"].as_str()?.parse().ok())
        .expect("the address is logged");
    let control = daemon.control();
    let (reader, tcp) = (At::Socket(&control), At::Tcp(address));
    let document = daemon.get("/v1/openapi.json").1;
    let bearer = ("authorization", "Bearer correct-horse-battery");
    let json = ("content-type", "application/json");
    // A byte more than is taken, so that all of it is read before the answer.
    let too_long = |most: usize| "x".repeat(most + 1);
    let (change, batch) = (too_long(16 << 20), too_long(8 << 20));
    let event = r#"{"type":"a"}"#;
    for (at, method, path, headers, body, status) in [
        (tcp, "get", "/v1/status", &[][..], "", 401),
        (tcp, "post", "/v1/events", &[json], event, 401),
        (reader, "post", "/v1/reload", &[], "", 403),
        (reader, "post", "/v1/events", &[json], event, 403),
        (tcp, "post", "/v1/dead/purge", &[bearer, json], &change, 413),
        (tcp, "post", "/v1/events", &[bearer, json], &batch, 413),
        (
            tcp,
            "post",
            "/v1/events",
            &[bearer, ("content-type", "application/cloudevents+xml")],
            "<event/>",
            415,
        ),
    ] {
        let answer = ask(at, &method.to_uppercase(), path, headers, body.to_owned());
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert_described(&document, method, path, &answer);
    }
}

/// The judge itself: it can tell.
#[test]
fn differences_are_found() {
    let document = json!({ "S": { "type": "string" } });
    let schema = json!({
        "type": "object",
        "properties": { "a": { "$ref": "#/S" }, "b": { "anyOf": [{ "type": "null" }, { "type": "integer" }] } },
        "required": ["a"],
    });
    for (value, count) in [
        (json!({ "a": "x" }), 0),
        (json!({ "a": "x", "b": null }), 0),
        (json!({ "a": "x", "b": 1 }), 0),
        (json!({ "b": 1 }), 1),
        (json!({ "a": 1 }), 1),
        (json!({ "a": "x", "b": "y" }), 1),
        (json!({ "a": "x", "c": 1 }), 1),
        (json!([]), 1),
    ] {
        assert_eq!(
            differences(&value, &schema, &document, "").len(),
            count,
            "{value}"
        );
    }
}
