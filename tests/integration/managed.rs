//! H2: endpoints defined over the control API live beside those in files: durable, live at once, judged alike.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::servers::{Target, header};
use crate::harness::{Daemon, endpoint, event, files};

fn put(daemon: &Daemon, name: &str, keys: &Value) -> (u16, Value) {
    tell(daemon, "PUT", name, keys)
}

fn tell(daemon: &Daemon, method: &str, name: &str, keys: &Value) -> (u16, Value) {
    let answer = daemon.ask(method, &format!("/v1/endpoints/{name}"), &[], keys.to_string());
    (answer.status, answer.json())
}

/// H2: put, deliver, put again, patch, restart by a crash, delete.
#[test]
fn h2_an_endpoint_lives_from_put_to_delete() {
    let mut target = Target::new();
    let mut daemon = Daemon::start(&endpoint("filed", &target.url("/filed"), "events = [\"x\"]"));
    let (_, before) = daemon.get("/v1/status");
    let keys = json!({
        "url": target.url("/own?token=S3CRET"), "events": ["a.*"],
        "headers": { "X-Key": "S3CRET" }, "retry": { "delay": "20ms", "max_attempts": 2 },
    });
    let (status, view) = put(&daemon, "own", &keys);
    assert_eq!((status, &view["defined_in"]), (201, &json!("api")), "{view}");
    assert_eq!(view["config"]["retry"]["max_attempts"], 2);
    assert!(!view.to_string().contains("S3CRET"), "{view}");
    assert_ne!(daemon.get("/v1/status").1["config_hash"], before["config_hash"]);
    assert_eq!(daemon.accept(&event("a.b", "1"))["deliveries"], 1);
    let got = target.next();
    assert_eq!(
        (&*got.path, header(&got, "x-key")),
        ("/own?token=S3CRET", "S3CRET")
    );

    // The same again changes nothing; other keys replace all of them.
    let hash = daemon.get("/v1/status").1["config_hash"].clone();
    assert_eq!(put(&daemon, "own", &keys).0, 200);
    assert_eq!(daemon.get("/v1/status").1["config_hash"], hash);
    let (status, view) = put(&daemon, "own", &json!({ "url": target.url("/other") }));
    assert_eq!((status, &view["config"]["events"]), (200, &json!(["**"])));
    // A patch leaves the rest as it is.
    let patch = json!({ "headers": { "X-Key": "S3CRET2" }, "timeout": "7s" });
    let (status, view) = tell(&daemon, "PATCH", "own", &patch);
    assert_eq!((status, &view["config"]["timeout"]), (200, &json!("7s")));
    assert_eq!(daemon.accept(&event("x", "2"))["deliveries"], 2);
    let mut paths: Vec<_> = target.take(2).into_iter().map(|got| got.path).collect();
    paths.sort();
    assert_eq!(paths, ["/filed", "/other"]);

    // On disk, for the daemon's user alone; there after a crash; untouched by a reload.
    let kept: Vec<_> = files(&daemon.path("queue/endpoints"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(
        fs::metadata(&kept[0]).unwrap().permissions().mode() & 0o777,
        0o600
    );
    daemon.kill();
    daemon.restart();
    assert_eq!(daemon.get("/v1/endpoints/own").1["config"], view["config"]);
    let report = daemon.cli(&["reload", "--json"]).exits(0).lines().remove(0);
    assert_eq!((&report["removed"], &report["changed"]), (&json!([]), &json!([])));
    assert_eq!(daemon.accept(&event("a.b", "3"))["deliveries"], 1);
    let got = target.next();
    assert_eq!((&*got.path, header(&got, "x-key")), ("/other", "S3CRET2"));
    daemon.until_settled("own");

    let (status, removed) = tell(&daemon, "DELETE", "own", &json!({}));
    assert_eq!(
        (status, removed),
        (200, json!({ "name": "own", "deliveries": 0, "dead": 0 }))
    );
    assert_eq!(daemon.accept(&event("a.b", "4"))["deliveries"], 0);
    assert_eq!(
        files(&daemon.path("queue/endpoints")),
        [""; 0].map(std::path::PathBuf::from)
    );
    assert_eq!(tell(&daemon, "DELETE", "own", &json!({})).0, 404);
    assert_eq!(tell(&daemon, "PATCH", "own", &json!({})).0, 404);
}

/// H2: what a removed endpoint is owed stays, as orphaned, and comes back with it.
#[test]
fn h2_deleting_leaves_what_is_owed() {
    let mut target = Target::new();
    let daemon = Daemon::start("");
    let keys = json!({ "url": target.url("/"), "enabled": false });
    put(&daemon, "own", &keys);
    assert_eq!(daemon.row("own")["state"], "disabled");
    daemon.accept_many("a", "e", 3);
    let ran = daemon.cli(&["endpoints", "delete", "own"]).exits(2);
    assert!(
        ran.err.contains("3 pending") && ran.err.contains("--yes"),
        "{ran:?}"
    );
    let ran = daemon.cli(&["endpoints", "delete", "own", "--yes"]).exits(0);
    assert!(
        ran.out.contains("still owed 3: posthaste endpoints move own"),
        "{ran:?}"
    );
    assert_eq!(daemon.row("own")["state"], "orphaned");
    assert_eq!(daemon.get("/v1/endpoints/own").1["defined_in"], Value::Null);
    put(&daemon, "own", &keys);
    daemon.cli(&["endpoints", "enable", "own"]).exits(0);
    target.take(3);
    daemon.until_settled("own");
    daemon.cli(&["endpoints", "disable", "own"]).exits(0);
    assert_eq!(daemon.row("own")["state"], "disabled");
}

/// H2: what a file defines is read-only here.
#[test]
fn h2_files_have_the_last_word() {
    let target = Target::new();
    let daemon = Daemon::start(&endpoint("filed", &target.url("/"), ""));
    let (_, before) = daemon.get("/v1/endpoints/filed");
    assert_eq!(before["defined_in"], "file");
    for method in ["PUT", "PATCH", "DELETE"] {
        let (status, answer) = tell(&daemon, method, "filed", &json!({ "url": target.url("/x") }));
        assert_eq!(
            (status, &answer["error"]["code"]),
            (409, &json!("file_defined")),
            "{method}"
        );
    }
    assert_eq!(daemon.get("/v1/endpoints/filed").1["config"], before["config"]);
    let ran = daemon.cli(&["endpoints", "disable", "filed"]).exits(1);
    assert!(ran.err.contains("defined in a file"), "{ran:?}");

    // A file that takes the name of one of the API's is refused as a whole, and says how to go on.
    put(&daemon, "own", &json!({ "url": target.url("/own") }));
    daemon.write_config(&endpoint("own", &target.url("/filed"), ""));
    let (status, answer) = daemon.post("/v1/reload", &json!({}));
    let problem = answer["error"]["problems"][0].as_str().unwrap().to_owned();
    assert_eq!(status, 422, "{answer}");
    for part in [
        "endpoints/own.toml",
        "is also the name",
        "config.toml",
        "posthaste endpoints delete",
    ] {
        assert!(problem.contains(part), "{part:?} is not in {problem}");
    }
    assert_eq!(daemon.get("/v1/endpoints/own").1["defined_in"], "api");
    // What the file says now is not adopted behind the operator's back.
    put(&daemon, "third", &json!({ "url": target.url("/third") }));
    assert_eq!(daemon.row("filed")["state"], "ready");
}

/// H2: keys are judged as in files, all at once, and nothing changes when one is wrong.
#[test]
fn h2_wrong_keys_are_refused_by_name() {
    let target = Target::new();
    let daemon = Daemon::start("");
    let url = target.url("/");
    for (keys, expected) in [
        (
            json!({ "url": url, "timeout": "0s", "jitter": 1 }),
            &[
                "endpoint.own.timeout: \"0s\" has to be longer than nothing; write it like 30s, 5m or 1h30m",
                "endpoint.own.jitter: unknown key `jitter`; it belongs into [endpoint.retry]",
            ][..],
        ),
        (json!({}), &["endpoint.own: url is missing; add url = …"]),
        (
            json!({ "url": url, "timeout": null }),
            &["timeout: null is no value; leave the key out"],
        ),
        (
            json!({ "url": "https://a.example/?token=***" }),
            &["url: *** is what is shown"],
        ),
        (
            json!({ "url": url, "headers": { "X": "${file:/etc/shadow}" } }),
            &["endpoint.own.headers.X: references (`${…}`) are not for endpoints defined over the API"],
        ),
        (json!({ "url": "${env:HOME}" }), &["endpoint.own.url: references"]),
    ] {
        let (status, answer) = put(&daemon, "own", &keys);
        assert_eq!(
            (status, &answer["error"]["code"]),
            (422, &json!("invalid_endpoint")),
            "{keys}: {answer}"
        );
        let problems = answer["error"]["problems"].as_array().unwrap();
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for part in expected {
            let found = problems
                .iter()
                .any(|problem| problem.as_str().unwrap().starts_with(part));
            assert!(found, "{part:?} is not in {problems:?}");
        }
    }
    for (name, keys) in [
        ("Own", json!({})),
        ("a..b", json!({})),
        ("own", json!([])),
        ("own", json!({ "name": "other" })),
    ] {
        assert_eq!(put(&daemon, name, &keys).0, 400, "{name} {keys}");
    }
    assert_eq!(daemon.ask("PUT", "/v1/endpoints/..%2Fx", &[], "{}").status, 400);
    assert_eq!(daemon.get("/v1/endpoints/own").0, 404);
    assert!(!daemon.path("queue/endpoints").exists());
}

/// H2: the command takes JSON and TOML, from a file and from standard input, and says what is wrong with it.
#[test]
fn h2_the_command_line_defines_endpoints() {
    let mut target = Target::new();
    let daemon = Daemon::start("");
    let toml = format!(
        "[[endpoint]]\nurl = \"{}\"\n[endpoint.retry]\nmax_attempts = 1\n",
        target.url("/toml")
    );
    fs::write(daemon.path("own.toml"), toml).unwrap();
    let ran = daemon.cli(&["endpoints", "put", "own", "own.toml"]).exits(0);
    assert!(ran.out.starts_with("own is defined"), "{ran:?}");
    daemon.accept(&event("a", "1"));
    assert_eq!(target.next().path, "/toml");
    let json = json!({ "url": target.url("/json") }).to_string();
    let view = daemon
        .cli_with(&["endpoints", "put", "own", "--json"], &json)
        .exits(0)
        .lines()
        .remove(0);
    assert_eq!(view["defined_in"], "api");
    daemon.accept(&event("a", "2"));
    assert_eq!(target.next().path, "/json");
    let ran = daemon
        .cli_with(&["endpoints", "put", "own"], "url = \"nowhere\"")
        .exits(1);
    assert!(ran.err.contains("endpoint.own.url: "), "{ran:?}");
    daemon.cli_with(&["endpoints", "put", "own"], "{").exits(2);
}

/// H2: a file that was changed by hand is a problem with its place, as in any other.
#[test]
fn h2_files_changed_by_hand_are_judged() {
    let target = Target::new();
    let mut daemon = Daemon::start("");
    put(&daemon, "own", &json!({ "url": target.url("/") }));
    let file = daemon.path("queue/endpoints/own.toml");
    let text = fs::read_to_string(&file).unwrap();
    for (changed, expected) in [
        (
            text.replace("\"own\"", "\"other\""),
            "one [[endpoint]] with the file's name",
        ),
        (text.clone() + "timout = 1\n", "did you mean `timeout`?"),
        ("[store]\n".to_owned(), "unknown key `store`"),
    ] {
        fs::write(&file, changed).unwrap();
        let (status, answer) = daemon.post("/v1/reload", &json!({}));
        assert_eq!(status, 422, "{answer}");
        let problems = answer["error"]["problems"].to_string();
        assert!(
            problems.contains(expected) && problems.contains("endpoints/own.toml"),
            "{problems}"
        );
    }
    fs::write(&file, text).unwrap();
    daemon.stop();
    daemon.restart();
    assert_eq!(daemon.row("own")["state"], "ready");
}
