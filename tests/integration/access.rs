//! A7: who may send what, who may see and change things, and what is written down of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::client::{At, ask};
use crate::harness::servers::Target;
use crate::harness::{Daemon, Setup, endpoint, event, eventually, run};
use crate::required;

const TOKEN: &str = "correct-horse-battery";

fn me() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The audit lines of a daemon whose log is JSON.
fn audited(daemon: &Daemon) -> Vec<Value> {
    let lines = daemon.log();
    let parsed = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter(|line| line["target"] == "audit").collect()
}

/// A7, A8: rules by user and type; the refusal says who may not send what, and a batch is refused whole.
#[test]
fn a7_rules_by_user_and_type() {
    let mut target = Target::new();
    let text = format!(
        "[[ingest.allow]]\nuid = {}\ntypes = [\"contact.*\"]\n[[ingest.allow]]\ntypes = [\"ping\"]\n{}",
        me(),
        endpoint("all", &target.url("/"), "")
    );
    let daemon = Daemon::start(&text);
    daemon.accept(&event("contact.created", "1"));
    daemon.accept(&event("ping", "2"));
    target.take(2);
    let refused = daemon.send(&event("order.paid", "3"));
    assert_eq!(
        json!([
            refused["status"],
            refused["code"],
            refused["id"],
            refused["retry_after_ms"]
        ]),
        json!(["rejected", "forbidden", "3", null])
    );
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("uid {}", me())) && message.contains("order.paid"),
        "{message}"
    );
    let batch = format!("[{},{}]", event("contact.created", "4"), event("order.paid", "5"));
    let refused = daemon.send(&batch);
    assert_eq!(refused["code"], "forbidden");
    assert!(
        refused["message"].as_str().unwrap().starts_with("event 2 of 2"),
        "{refused}"
    );
    assert_eq!(daemon.get("/v1/events/4").0, 404);
    assert_eq!(daemon.get("/v1/status").1["ingest"]["rejected"]["forbidden"], 2);
}

/// A7: other uids and groups, as the kernel tells them; the uid is kept on the event and shown.
#[test]
fn a7_the_kernel_says_who_sends() {
    if me() != 0 {
        required::missing(
            "root",
            "run this test as root to send as another user",
            "not root",
        );
        return;
    }
    let target = Target::new();
    let text = format!(
        "[[ingest.allow]]\nuid = 12345\ntypes = [\"a\"]\n[[ingest.allow]]\ngid = 23456\ntypes = [\"b\"]\n{}",
        endpoint("all", &target.url("/status/404"), "")
    );
    let daemon = Setup::new(&text).ingest("mode = \"0666\"").start();
    Command::new("chmod")
        .arg("755")
        .arg(daemon.path("."))
        .status()
        .unwrap();
    let send = |uid: &str, gid: &str, line: &str| {
        let mut socat = Command::new("setpriv");
        socat.args([
            "--reuid",
            uid,
            "--regid",
            gid,
            "--clear-groups",
            "socat",
            "-t5",
            "-",
        ]);
        socat.arg(format!("UNIX-CONNECT:{}", daemon.ingest().display()));
        run(&mut socat, &format!("{line}\n"))
            .unwrap()
            .exits(0)
            .lines()
            .remove(0)
    };
    for (uid, gid, kind, expected) in [
        ("12345", "1", "a", Value::Null),
        ("12345", "1", "b", json!("forbidden")),
        ("1", "23456", "b", Value::Null),
        ("1", "1", "b", json!("forbidden")),
        ("0", "0", "a", json!("forbidden")),
    ] {
        let answer = send(uid, gid, &event(kind, &format!("{uid}-{gid}-{kind}")));
        assert_eq!(
            answer.get("code").cloned().unwrap_or_default(),
            expected,
            "{uid} {gid} {kind}: {answer}"
        );
    }
    daemon.until_dead("all", 2);
    let (_, shown) = daemon.get("/v1/events/12345-1-a");
    assert_eq!(
        (&shown["sender_uid"], &shown["source"]),
        (&json!(12345), &json!("/local/12345"))
    );
    let shown = daemon.cli(&["events", "show", "12345-1-a"]).exits(0).out;
    assert!(shown.contains("12345"), "{shown}");
}

/// A7, A8: a rate holds over connections, its burst is one unit, and a reload adopts other rules at once.
#[test]
fn a7_rates_and_reload() {
    let mut target = Target::new();
    let all = endpoint("all", &target.url("/"), "");
    let daemon = Daemon::start(&format!("[[ingest.allow]]\nrate = \"3/h\"\n{all}"));
    let codes: Vec<Value> = (0..5)
        .map(|n| daemon.send(&event("a", &n.to_string()))["code"].clone())
        .collect();
    let limited = json!("rate_limited");
    assert_eq!(
        codes,
        [Value::Null, Value::Null, Value::Null, limited.clone(), limited]
    );
    let refused = daemon.send(&event("a", "x"));
    assert!(
        refused["retry_after_ms"].as_u64().unwrap() > 1_000_000,
        "{refused}"
    );
    target.take(3);
    daemon.write_config(&all);
    let report = daemon.cli(&["reload", "--json"]).exits(0).lines().remove(0);
    assert_eq!(report["needs_restart"], json!([]));
    daemon.accept(&event("a", "y"));
}

/// A7: readers see and do not change; who is on no list may do nothing; producers are elsewhere altogether.
#[test]
fn a7_readers_see_and_do_not_change() {
    let target = Target::new();
    let all = endpoint("all", &target.url("/"), "");
    let daemon = Setup::new(&all)
        .control(&format!("readers = [\"uid:{}\"]", me()))
        .start();
    for path in [
        "/v1/status",
        "/v1/config",
        "/v1/dead",
        "/metrics",
        "/v1/openapi.json",
    ] {
        assert_eq!(daemon.ask("GET", path, &[], "").status, 200, "{path}");
    }
    for (method, path) in [
        ("POST", "/v1/endpoints/all/pause"),
        ("POST", "/v1/dead/purge"),
        ("POST", "/v1/reload"),
        ("POST", "/v1/events"),
        ("PUT", "/v1/endpoints/new"),
        ("DELETE", "/v1/endpoints/all"),
    ] {
        let answer = daemon.ask(method, path, &[], "{}");
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (403, &json!("forbidden")),
            "{method} {path}"
        );
    }
    assert_eq!(daemon.row("all")["state"], "ready");
    let ran = daemon.cli(&["endpoints", "pause", "all"]).exits(1);
    assert!(ran.err.contains("[control] readers"), "{ran:?}");

    let nobody = Setup::new(&all)
        .control("operators = [\"uid:4294967294\"]")
        .start();
    assert_eq!(nobody.ask("GET", "/healthz", &[], "").status, 200);
    for path in ["/v1/status", "/v1/nowhere", "/metrics"] {
        assert_eq!(nobody.ask("GET", path, &[], "").status, 403, "{path}");
    }
    // The producers' socket takes events and nothing of the API.
    let answer = nobody.producer().send("POST /v1/reload HTTP/1.1");
    assert_eq!(answer["code"], "invalid_json");
}

/// A7: every change is one audit line with who, what and the result; refused ones too; looking is none.
#[test]
fn a7_every_change_is_audited() {
    let target = Target::new();
    let text = format!(
        "[log]\nformat = \"json\"\nlevel = \"warn\"\n{}",
        endpoint("all", &target.url("/"), "")
    );
    let daemon = Daemon::start(&text);
    daemon.get("/v1/status");
    daemon.post(
        "/v1/endpoints/all/pause",
        &json!({ "reason": "their maintenance" }),
    );
    daemon.post("/v1/endpoints/all/resume", &json!({}));
    daemon.post("/v1/endpoints/nobody/pause", &json!({}));
    let keys = json!({ "url": target.url("/"), "headers": { "X-Key": "S3CRET" } });
    daemon.ask("PUT", "/v1/endpoints/own", &[], keys.to_string());
    daemon.ask(
        "PATCH",
        "/v1/endpoints/own",
        &[],
        r#"{"headers":{"X-Key":"S3CRET2"}}"#,
    );
    daemon.ask("DELETE", "/v1/endpoints/own", &[], "");
    daemon.post("/v1/dead/purge", &json!({ "filter": {}, "dry_run": true }));
    daemon.post("/v1/dead/purge", &json!({ "filter": {} }));
    daemon.post("/v1/reload", &json!({}));
    daemon.accept(&event("a", "1"));
    let lines = eventually("the reload is audited", || {
        let lines = audited(&daemon);
        lines
            .iter()
            .any(|line| line["action"] == "reload")
            .then_some(lines)
    });
    let shown: Vec<_> = lines
        .iter()
        .map(|line| {
            assert_eq!(line["uid"], me(), "{line}");
            json!([line["action"], line["object"], line["result"]])
        })
        .collect();
    let hash = lines.last().unwrap()["object"].clone();
    assert_eq!(
        shown,
        [
            json!(["pause", "all", "done"]),
            json!(["resume", "all", "done"]),
            json!(["POST", "/v1/endpoints/nobody/pause", 404]),
            json!(["put", "own", "done"]),
            json!(["patch", "own", "done"]),
            json!(["delete", "own", "done"]),
            json!(["purge", "{}", "done"]),
            json!(["reload", hash, "done"]),
        ]
    );
    assert!(
        !daemon.log().contains("S3CRET"),
        "values of keys are not for the log"
    );
}

/// What a route is driven with, by its method and its template: the path, the body, and the object of its audit line.
type Drive<'a> = (&'a str, &'a str, &'a str, Value);

/// Does each, and holds the audit log to one more line, with who it was and what was done.
fn drive(daemon: &Daemon, drives: &[Drive<'_>]) {
    for (method, template, path, body) in drives {
        let before = audited(daemon).len();
        let answer = daemon.ask(method, path, &[], body.to_string());
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        let line = eventually(path, || audited(daemon).into_iter().nth(before));
        let word = match *method {
            "POST" => template.rsplit('/').next().unwrap().to_owned(),
            other => other.to_lowercase(),
        };
        assert_eq!(
            json!([line["action"], line["uid"], line["result"]]),
            json!([word, me(), "done"]),
            "{method} {path}"
        );
    }
}

/// A7: no route of the API that changes something does so without an audit line.
#[test]
fn a7_every_route_that_changes_is_audited() {
    let target = Target::new();
    let parked = |name: &str| endpoint(name, &target.url("/"), "events = [\"parked\"]\nenabled = false");
    let kept = "[log]\nformat = \"json\"\nlevel = \"warn\"\n".to_owned()
        + &endpoint("kept", &target.url("/status/404"), "events = [\"dead\"]");
    let daemon = Daemon::start(&(kept.clone() + &parked("moved") + &parked("buried")));
    daemon.accept(&event("dead", "1"));
    daemon.accept(&event("parked", "2"));
    let letter = daemon.until_dead("kept", 1).remove(0)["id"].clone();
    daemon.write_config(&kept);
    let name = "/v1/endpoints/{name}";
    let verbs = ["pause", "resume", "flush", "test", "move", "bury"];
    let [pause, resume, flush, test, to, bury] = verbs.map(|verb| format!("{name}/{verb}"));
    let own = json!({ "url": target.url("/"), "enabled": false });
    let drives: Vec<Drive<'_>> = vec![
        ("POST", "/v1/reload", "/v1/reload", json!({})),
        ("POST", &pause, "/v1/endpoints/kept/pause", json!({})),
        ("POST", &resume, "/v1/endpoints/kept/resume", json!({})),
        ("POST", &flush, "/v1/endpoints/kept/flush", json!({})),
        ("POST", &test, "/v1/endpoints/kept/test", json!({})),
        ("POST", &to, "/v1/endpoints/moved/move", json!({ "to": "kept" })),
        ("POST", &bury, "/v1/endpoints/buried/bury", json!({})),
        ("PUT", name, "/v1/endpoints/own", own),
        ("PATCH", name, "/v1/endpoints/own", json!({ "enabled": true })),
        ("DELETE", name, "/v1/endpoints/own", json!({})),
        (
            "POST",
            "/v1/dead/replay",
            "/v1/dead/replay",
            json!({ "ids": [letter] }),
        ),
        (
            "POST",
            "/v1/dead/purge",
            "/v1/dead/purge",
            json!({ "filter": {} }),
        ),
    ];
    drive(&daemon, &drives);

    let driven: BTreeSet<String> = drives.iter().map(|d| format!("{} {}", d.0, d.1)).collect();
    let document = daemon.get("/v1/openapi.json").1;
    let described = document["paths"].as_object().unwrap().iter();
    let mut changing: BTreeSet<String> = described
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .filter(|route| !route.starts_with("GET "))
        .collect();
    // What is sent is counted as from any producer, and nothing is changed by an explanation.
    for exempt in ["POST /v1/events", "POST /v1/explain"] {
        assert!(changing.remove(exempt), "{exempt}");
    }
    assert_eq!(driven, changing);
}

/// A7: a reload by signal is as much of a change as one over the API: the kernel says whose signal it was.
#[test]
fn a7_a_reload_by_signal_is_audited() {
    let daemon = Daemon::start("[log]\nformat = \"json\"\nlevel = \"warn\"\n");
    let mut details = Vec::new();
    for text in ["[log]\nformat = \"json\"\n", "[nonsense]\n"] {
        daemon.write_config(text);
        let before = audited(&daemon).len();
        daemon.signal(Signal::HUP);
        let line = eventually("the signal is audited", || {
            audited(&daemon).into_iter().nth(before)
        });
        assert_eq!(
            json!([line["action"], line["uid"]]),
            json!(["reload", me()]),
            "{line}"
        );
        details.push(line["detail"].clone());
    }
    assert_eq!(
        details,
        ["by SIGHUP, adopted", "by SIGHUP, refused for 1 problems"]
    );
}

/// A7: the group of the producers opens their socket and not the operators'.
#[test]
fn a7_producers_cannot_open_the_control_socket() {
    if me() != 0 {
        let mend = "run this test as root to come as another user";
        required::missing("root", mend, "not root");
        return;
    }
    let target = Target::new();
    let daemon = Setup::new(&endpoint("all", &target.url("/"), ""))
        .ingest("group = \"users\"")
        .start();
    Command::new("chmod")
        .arg("755")
        .arg(daemon.path("."))
        .status()
        .unwrap();
    let come = |group: &str, socket: &Path, line: &str| {
        let mut socat = Command::new("setpriv");
        socat.args(["--reuid", "12345", "--regid", group, "--clear-groups"]);
        socat.args(["socat", "-t5", "-"]);
        socat.arg(format!("UNIX-CONNECT:{}", socket.display()));
        run(&mut socat, line).unwrap()
    };
    let line = event("a", "1") + "\n";
    let taken = come("users", &daemon.ingest(), &line).exits(0).lines();
    assert_eq!(taken[0]["status"], "accepted");
    let status = "GET /v1/status HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    for (group, socket, text) in [
        ("users", daemon.control(), status),
        ("12345", daemon.ingest(), &line),
    ] {
        let refused = come(group, &socket, text);
        assert!(
            refused.code != 0 && refused.out.is_empty() && refused.err.contains("Permission denied"),
            "{group} {}: {refused:?}",
            socket.display()
        );
    }
}

/// A7: the TCP door opens for the token alone, and whoever shows it is an operator.
#[test]
fn a7_tcp_needs_the_token() {
    let target = Target::new();
    let daemon = Setup::new(&format!(
        "[log]\nformat = \"json\"\n{}",
        endpoint("all", &target.url("/"), "")
    ))
    .control("listen = \"127.0.0.1:0\"\ntoken = \"${env:TOKEN}\"")
    .env("TOKEN", TOKEN)
    .start();
    let address: SocketAddr = daemon
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|line| line["address"].as_str()?.parse().ok())
        .expect("the address is logged");
    let tcp = At::Tcp(address);
    let bearer = format!("Bearer {TOKEN}");
    let good = [("authorization", &*bearer)];
    assert_eq!(ask(tcp, "GET", "/healthz", &[], "").status, 200);
    for (path, headers) in [
        ("/v1/status", &[][..]),
        ("/v1/nowhere", &[]),
        ("/readyz", &[]),
        ("/v1/status", &[("authorization", "Bearer correct-horse-batterz")]),
        ("/v1/status", &[("authorization", "Bearer")]),
        ("/v1/status?token=correct-horse-battery", &[]),
    ] {
        let answer = ask(tcp, "GET", path, headers, "");
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, "Bearer"),
            "{path} {headers:?}"
        );
    }
    assert_eq!(ask(tcp, "GET", "/v1/status", &good, "").status, 200);
    assert_eq!(ask(tcp, "POST", "/v1/endpoints/all/pause", &[], "{}").status, 401);
    assert_eq!(daemon.row("all")["state"], "ready");
    assert_eq!(
        ask(tcp, "POST", "/v1/endpoints/all/pause", &good, "{}").status,
        200
    );
    let headers = [good[0], ("content-type", "application/json")];
    let sent = ask(tcp, "POST", "/v1/events", &headers, r#"{"type":"a","id":"t1"}"#);
    assert_eq!((sent.status, &sent.json()["deliveries"]), (202, &json!(1)));
    let (_, shown) = daemon.get("/v1/events/t1");
    assert_eq!(
        (&shown["source"], &shown["sender_uid"]),
        (&json!("/remote/127.0.0.1"), &Value::Null)
    );
    let line = eventually("the pause is audited", || {
        audited(&daemon)
            .into_iter()
            .find(|line| line["action"] == "pause")
    });
    assert!(line["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    let (_, config) = daemon.get("/v1/config");
    assert_eq!(config["config"]["control"]["token"], "***");
    assert!(!daemon.log().contains(TOKEN));
}

/// A7: a TCP door without a token is refused before anything is opened.
#[test]
fn a7_tcp_without_a_token_does_not_start() {
    for (lines, expected) in [
        ("listen = \"127.0.0.1:0\"", "it needs a token"),
        ("listen = \"127.0.0.1:0\"\ntoken = \"short\"", "at least 16"),
        (
            "listen = \"8026\"\ntoken = \"correct-horse-battery\"",
            "is not an address",
        ),
        ("operators = [\"ada\"]", "names nobody"),
        (
            "operators = [\"user:nobody-is-called-that\"]",
            "is not in /etc/passwd",
        ),
    ] {
        let mut daemon = Setup::new("").control(lines).stopped();
        let config = daemon.path("config.toml");
        let checked = daemon
            .cli(&["check", "--config", config.to_str().unwrap()])
            .exits(1);
        assert!(checked.err.contains(expected), "{lines}: {checked:?}");
        daemon.spawn();
        assert!(!daemon.wait().success());
        assert!(daemon.log().contains(expected), "{lines}: {}", daemon.log());
        assert!(!daemon.control().exists());
    }
}
