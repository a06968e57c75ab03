//! Seeing and holding: status, endpoints, events, and the exit codes of the command line.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::servers::{Gate, Target, header};
use crate::harness::{Daemon, Setup, endpoint, event, eventually, installed, now, run};
use crate::required;

/// B6, H4: what the status says, the table, the JSON lines and the API agree, and the way out is named.
#[test]
fn b6_status_text_json_and_api_agree() {
    let target = Target::new();
    let text = endpoint("good", &target.url("/ok"), "")
        + &endpoint("bad", &target.url("/status/500"), "retry = { delay = \"1h\" }")
        + &endpoint("dead", &target.url("/status/404"), "");
    let daemon = Daemon::start(&text);
    daemon.accept(&event("a", "e1"));
    daemon.until_dead("dead", 1);
    daemon.until_row("bad", "deferred", |row| {
        row["deferred"] == 1 && row["in_flight"] == 0
    });
    daemon.until_row("good", "delivered", |row| {
        row["attempts"]["delivered"] == 1 && row["pending"] == 0
    });

    let (_, api) = daemon.get("/v1/status");
    let cli = daemon.cli(&["status", "--json"]).exits(0).lines().remove(0);
    let stable = |status: &Value| {
        let row = |row: &Value| {
            json!([
                row["name"],
                row["state"],
                row["pending"],
                row["deferred"],
                row["dead"]
            ])
        };
        let rows: Vec<Value> = status["endpoints"].as_array().unwrap().iter().map(row).collect();
        json!([
            status["version"],
            status["config_hash"],
            status["totals"]["pending"],
            status["totals"]["dead"],
            rows
        ])
    };
    assert_eq!(stable(&api), stable(&cli));
    assert_eq!(
        stable(&api)[4],
        json!([
            ["good", "ready", 0, 0, 0],
            ["bad", "ready", 1, 1, 0],
            ["dead", "ready", 0, 0, 1]
        ])
    );
    let screen = daemon.cli(&["status"]).exits(0).out;
    for part in [
        "1 pending (1 wait for a retry",
        "1 dead",
        api["config_hash"].as_str().unwrap(),
        "bad keeps failing",
        "answered 500 Internal Server Error",
        "posthaste endpoints flush bad",
        "posthaste dead list --endpoint dead",
    ] {
        assert!(screen.contains(part), "{part:?} is not in\n{screen}");
    }
    let list = daemon.cli(&["endpoints", "list", "--json"]).exits(0).lines();
    let names: Vec<_> = list.iter().map(|view| &view["name"]).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(daemon.cli(&["endpoints", "list"]).exits(0).out.contains("good"));
}

/// B6: a pause parks everything, survives a restart, says who and why, and ends by resume.
#[test]
fn b6_a_pause_parks_and_is_durable() {
    let mut target = Target::new();
    let mut daemon = Daemon::start(&endpoint("crm", &target.url("/ok"), ""));
    let paused = daemon
        .cli(&["endpoints", "pause", "crm", "--reason", "their maintenance"])
        .exits(0);
    assert!(paused.out.contains("crm is paused until resumed"), "{paused:?}");
    daemon.accept_many("a", "e", 5);
    daemon.kill();
    daemon.restart();
    daemon.accept_many("a", "f", 5);
    let row = daemon.row("crm");
    assert_eq!((&row["state"], &row["pending"]), (&json!("paused"), &json!(10)));
    assert!(
        row["why"].as_str().unwrap().contains("their maintenance"),
        "{row}"
    );
    assert!(
        daemon
            .cli(&["status"])
            .exits(0)
            .out
            .contains("posthaste endpoints resume crm")
    );
    assert_eq!(target.requests(), 0);
    daemon.cli(&["endpoints", "resume", "crm"]).exits(0);
    target.take(10);
    daemon.until_settled("crm");
    assert_eq!(daemon.row("crm")["state"], "ready");
}

/// B6: of pauses and resumptions that come at once the scheduler goes by the one that is on disk in the end.
#[test]
fn b6_pauses_at_once_end_as_they_are_on_disk() {
    let target = Target::new();
    let mut daemon = Daemon::start(&endpoint("crm", &target.url("/ok"), ""));
    for _ in 0..4 {
        thread::scope(|scope| {
            for verb in ["pause", "resume", "pause", "resume"] {
                let path = format!("/v1/endpoints/crm/{verb}");
                let daemon = &daemon;
                scope.spawn(move || {
                    for _ in 0..10 {
                        assert_eq!(daemon.post(&path, &json!({})).0, 200);
                    }
                });
            }
        });
        let before = daemon.row("crm")["state"].clone();
        daemon.kill();
        daemon.restart();
        assert_eq!(daemon.row("crm")["state"], before);
    }
}

/// B6: a pause for a time ends by itself.
#[test]
fn b6_a_pause_can_expire() {
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint("crm", &target.url("/ok"), ""));
    let begun = now();
    let (code, row) = daemon.post("/v1/endpoints/crm/pause", &json!({ "for": "700ms" }));
    assert_eq!((code, &row["state"]), (200, &json!("paused")), "{row}");
    assert!(row["until"].is_string(), "{row}");
    daemon.accept(&event("a", "e1"));
    assert!(target.next().at.since(begun) >= Duration::from_millis(700));
    daemon.until_state("crm", "ready");
    daemon
        .cli(&["endpoints", "pause", "crm", "--for", "soon"])
        .exits(2);
    daemon.cli(&["endpoints", "pause", "nobody"]).exits(1);
}

/// B6, B7: endpoints are found by what they do, whose they are and what they take, page by page too.
#[test]
fn b6_endpoints_are_found() {
    let target = Target::new();
    let of = |name: &str, more: &str| endpoint(name, &target.url("/ok"), more);
    let daemon = Daemon::start(
        &(of("ours", "tenant = \"acme\"\nevents = [\"contact.*\"]")
            + &of("ours-too", "tenant = \"acme\"\nevents = [\"**\"]")
            + &of("off", "enabled = false\nevents = [\"contact.created\"]")
            + &of("deals", "events = [\"deal.won\"]")),
    );
    daemon.cli(&["endpoints", "pause", "deals"]).exits(0);
    let cases: [(&[&str], &str, &[&str]); 8] = [
        (&[], "", &["ours", "ours-too", "off", "deals"]),
        (&["--tenant", "acme"], "tenant=acme", &["ours", "ours-too"]),
        (&["--tenant", ""], "tenant=", &["off", "deals"]),
        (&["--tenant", "acm"], "tenant=acm", &[]),
        (&["--state", "paused"], "state=paused", &["deals"]),
        (&["--state", "disabled"], "state=disabled", &["off"]),
        (
            &["--type", "contact.created"],
            "type=contact.created",
            &["ours", "ours-too", "off"],
        ),
        (
            &["--type", "deal.won", "--state", "ready"],
            "type=deal.won&state=ready",
            &["ours-too"],
        ),
    ];
    let names = |items: &Value| -> Vec<String> {
        let names = items
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["name"].as_str().unwrap());
        names.map(str::to_owned).collect()
    };
    for (words, query, wanted) in cases {
        let (code, page) = daemon.get(&format!("/v1/endpoints?{query}"));
        assert_eq!((code, &page["next"]), (200, &Value::Null), "{query}: {page}");
        assert_eq!(names(&page["items"]), wanted, "{query}");
        let listed = [&["endpoints", "list"], words].concat();
        let text = daemon.cli(&listed).exits(0).out;
        let rows: Vec<&str> = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(rows, wanted, "{words:?}:\n{text}");
        assert!(!wanted.is_empty() || text.contains("none like this"), "{text}");
        let lines = daemon.cli(&[&listed[..], &["--json"]].concat()).exits(0).out;
        let shown: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(names(&shown.into()), wanted, "{words:?}:\n{lines}");
    }
    let (_, first) = daemon.get("/v1/endpoints?type=contact.created&limit=2");
    assert_eq!(names(&first["items"]), ["ours", "ours-too"]);
    let cursor = first["next"].as_str().unwrap();
    let (_, second) = daemon.get(&format!(
        "/v1/endpoints?type=contact.created&limit=2&cursor={cursor}"
    ));
    assert_eq!(
        (names(&second["items"]), &second["next"]),
        (vec!["off".to_owned()], &Value::Null)
    );
    for (query, words) in [
        ("state=busy", "ready, suspended, tripped"),
        ("type=contact.*", "without wildcards"),
        ("tennant=acme", "tennant"),
    ] {
        let (code, refused) = daemon.get(&format!("/v1/endpoints?{query}"));
        assert_eq!(code, 400, "{refused}");
        assert!(refused.to_string().contains(words), "{refused}");
    }
}

/// B6: a disabled endpoint is owed its events; they go out when it is enabled.
#[test]
fn b6_a_disabled_endpoint_parks() {
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint("crm", &target.url("/ok"), "enabled = false"));
    assert_eq!(daemon.accept(&event("a", "e1"))["deliveries"], 1);
    let row = daemon.row("crm");
    assert_eq!((&row["state"], &row["pending"]), (&json!("disabled"), &json!(1)));
    let refused = daemon.cli(&["endpoints", "resume", "crm"]).exits(1);
    assert!(refused.err.contains("enabled = false"), "{refused:?}");
    assert_eq!(target.requests(), 0);
    daemon.write_config(&endpoint("crm", &target.url("/ok"), ""));
    daemon.cli(&["reload"]).exits(0);
    assert_eq!(header(&target.next(), "webhook-id"), "e1");
}

/// H1: where an event stands with each endpoint.
#[test]
fn h1_an_event_can_be_looked_up() {
    let target = Target::new();
    let text = endpoint("good", &target.url("/ok"), "")
        + &endpoint("bad", &target.url("/status/500"), "retry = { delay = \"1h\" }")
        + &endpoint("dead", &target.url("/status/404"), "");
    let daemon = Daemon::start(&text);
    daemon.accept(r#"{"type":"a","id":"order 1/2","source":"/shop"}"#);
    let letter = daemon.until_dead("dead", 1).remove(0);
    daemon.until_row("bad", "deferred", |row| {
        row["deferred"] == 1 && row["in_flight"] == 0
    });
    daemon.until_settled("good");
    let shown = daemon
        .cli(&["events", "show", "order 1/2", "--json"])
        .exits(0)
        .lines()
        .remove(0);
    assert_eq!(
        (&shown["source"], &shown["event"]["type"]),
        (&json!("/shop"), &json!("a"))
    );
    assert_eq!(shown["sender_uid"], rustix::process::getuid().as_raw());
    let deliveries = shown["deliveries"].as_array().unwrap();
    let of = |name: &str| {
        deliveries
            .iter()
            .find(|delivery| delivery["endpoint"] == name)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(
        (
            &of("bad")["state"],
            &of("bad")["tries"],
            &of("bad")["last_status"]
        ),
        (&json!("deferred"), &json!(1), &json!(500))
    );
    assert_eq!(
        (&of("dead")["state"], &of("dead")["dead_id"]),
        (&json!("dead"), &letter["id"])
    );
    assert_eq!(
        (&of("good")["state"], &of("good")["last_status"]),
        (&json!("delivered"), &json!(200)),
        "nothing is owed there any more"
    );
    let people = daemon.cli(&["events", "show", "order 1/2"]).exits(0).out;
    assert!(
        people.contains("deferred") && people.contains("answered 500"),
        "{people}"
    );
    daemon.cli(&["events", "show", "nothing"]).exits(1);
}

/// The exit codes that scripts rely on: nobody there is 3, a wrong question is 2, a wrong thing is 1.
#[test]
fn exit_codes_tell_what_is_wrong() {
    let mut daemon = Setup::new("").stopped();
    for words in [
        &["status"][..],
        &["endpoints", "list"],
        &["dead", "list"],
        &["dead", "replay", "x:1"],
        &["events", "show", "x"],
        &["reload"],
        &["send", "a"],
    ] {
        let ran = daemon.cli(words).exits(3);
        assert!(ran.err.contains(".sock"), "{words:?}: it says where: {ran:?}");
    }
    daemon.restart();
    daemon.cli(&["status", "--no-such-option"]).exits(2);
    daemon.cli(&["frobnicate"]).exits(2);
    daemon.cli(&["endpoints", "show", "nobody"]).exits(1);
    daemon.cli(&["send", "a", "--data", "not json"]).exits(2);
    daemon.cli(&["status"]).exits(0);
    daemon.cli(&["--version"]).exits(0);
}

/// A12: `posthaste send`, one event or a stream, in words and as JSON, and the same over a pipe.
#[test]
fn a12_send_from_a_shell() {
    let mut target = Target::new();
    let daemon = Daemon::start(&endpoint("crm", &target.url("/ok"), ""));
    let sent = daemon
        .cli(&[
            "send",
            "contact.created",
            "--id",
            "e1",
            "--data",
            "{\"a\": 1}",
            "--tenant",
            "t1",
        ])
        .exits(0);
    assert_eq!(sent.out, "accepted e1: 1 delivery\n");
    let got: Value = serde_json::from_slice(&target.next().body).unwrap();
    assert_eq!(
        (&got["type"], &got["data"], &got["tenant"]),
        (&json!("contact.created"), &json!({ "a": 1 }), &json!("t1"))
    );
    assert!(
        daemon
            .cli(&["send", "contact.created", "--id", "e1"])
            .exits(0)
            .out
            .starts_with("duplicate e1")
    );
    let lines = format!(
        "{}\nnonsense\n[{},{}]",
        event("a", "l1"),
        event("a", "l2"),
        event("a", "l3")
    );
    let streamed = daemon.cli_with(&["send", "--ndjson", "--json"], &lines).exits(1);
    let statuses: Vec<_> = streamed
        .lines()
        .iter()
        .map(|line| line["status"].clone())
        .collect();
    assert_eq!(statuses, ["accepted", "rejected", "accepted"]);
    assert!(
        streamed.err.contains("3 lines: 3 events accepted"),
        "{streamed:?}"
    );
    target.take(3);
}

/// I6: the store's tools work on a stopped daemon's store, and are refused while it runs.
#[test]
fn i6_offline_store_tools() {
    let target = Target::new();
    let text = endpoint("bad", &target.url("/status/500"), "retry = { delay = \"1h\" }")
        + &endpoint("dead", &target.url("/status/404"), "");
    let mut daemon = Daemon::start(&text);
    daemon.accept_many("a", "e", 3);
    daemon.until_dead("dead", 3);
    let config = daemon.path("config.toml");
    let tool = |daemon: &Daemon, verb: &str| {
        daemon.cli(&["store", verb, "--json", "--config", config.to_str().unwrap()])
    };
    for verb in ["status", "check"] {
        let refused = tool(&daemon, verb).exits(1);
        let pid = daemon.pid().as_raw_nonzero().to_string();
        assert!(
            refused.err.contains(&pid),
            "it names the daemon {pid}: {refused:?}"
        );
    }
    daemon.stop();
    let status = tool(&daemon, "status").exits(0).lines().remove(0);
    let lanes = status["endpoints"].as_array().unwrap();
    let numbers: Vec<_> = lanes
        .iter()
        .map(|lane| (&lane["endpoint"], &lane["pending"], &lane["dead"]))
        .collect();
    assert!(
        numbers.contains(&(&json!("bad"), &json!(3), &json!(0))),
        "{status}"
    );
    assert!(
        numbers.contains(&(&json!("dead"), &json!(0), &json!(3))),
        "{status}"
    );
    let check = tool(&daemon, "check").exits(0).lines().remove(0);
    for (number, expected) in [("pending", 3), ("dead", 3), ("damaged", 0), ("quarantined", 0)] {
        assert_eq!(check[number], expected, "{number}: {check}");
    }
    daemon.restart();
    assert_eq!(daemon.row("bad")["pending"], 3, "looking changes nothing");
}

/// The small questions of load balancers and monitoring, and `curl` as anybody would use it.
#[test]
fn h6_health_readiness_and_metrics() {
    let gate = Gate::new();
    let daemon = Daemon::start(&endpoint("slow", &gate.url(), ""));
    daemon.accept(&event("a", "e1"));
    eventually("a request", || (gate.requests() == 1).then_some(()));
    assert_eq!(daemon.http("GET", "/healthz", None).0, 200);
    assert_eq!(daemon.http("GET", "/readyz", None).0, 200);
    let (_, metrics) = daemon.http("GET", "/metrics", None);
    assert!(
        metrics
            .lines()
            .any(|line| line.starts_with("posthaste_") && line.contains("endpoint=\"slow\"")),
        "{metrics}"
    );
    assert_eq!(daemon.get("/v1/nothing").0, 404);
    assert_eq!(daemon.post("/v1/status", &json!({})).0, 405);
    if !installed("curl") {
        return required::missing("curl", "apt-get install curl", "not found");
    }
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--unix-socket"])
        .arg(daemon.control())
        .arg("http://localhost/v1/status");
    let ran = run(&mut curl, "").unwrap().exits(0);
    assert_eq!(ran.lines()[0]["totals"]["pending"], 1);
    gate.open();
    daemon.until_settled("slow");
}

/// `posthaste check` finds every problem at once, with its place, before a daemon does.
#[test]
fn check_finds_every_problem_at_once() {
    let daemon = Setup::new("").stopped();
    let config = daemon.path("config.toml");
    let check = || daemon.cli(&["check", "--config", config.to_str().unwrap()]);
    daemon.write_config(&endpoint("good", "https://example.com/", ""));
    assert!(check().exits(0).out.starts_with("ok: 1 endpoint"));
    daemon.write_config("[[endpoint]]\nname = \"Bad Name\"\nurl = \"ftp://x\"\ntimeot = \"5s\"\n");
    let ran = check().exits(1);
    let line = 1 + std::fs::read_to_string(&config)
        .unwrap()
        .lines()
        .position(|line| line.contains("Bad Name"))
        .unwrap();
    for part in [
        format!("config.toml:{line}:"),
        format!("config.toml:{}:", line + 1),
        format!("config.toml:{}:", line + 2),
        "timeout".to_owned(),
    ] {
        assert!(ran.err.contains(&part), "{part:?} is not in {}", ran.err);
    }
    assert!(ran.out.contains("3 problems"), "{ran:?}");
}

/// H4: the receiver for development shows what came, says whether the signature is right, and misbehaves on request.
#[test]
fn h4_the_receiver_for_development() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut receiver = Command::new(env!("CARGO_BIN_EXE_posthaste"))
        .args(["receive", "--listen", "127.0.0.1:0", "--secret", SECRET])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = BufReader::new(receiver.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let address = shown.next().unwrap().split_once("http://").unwrap().1.to_owned();
    let more = |secret: &str| {
        format!(
            "sign = [{{ scheme = \"standard\", secrets = [\"{secret}\"] }}]\nretry = {{ max_attempts = 1 }}"
        )
    };
    let text = endpoint("right", &format!("http://{address}/ok"), &more(SECRET))
        + &endpoint(
            "wrong",
            &format!("http://{address}/status/418"),
            &more("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
        );
    let daemon = Daemon::start(&text);
    for (name, answered, signature) in [
        ("right", "answered: 200", "signature verified"),
        ("wrong", "answered: 418", "signature wrong"),
    ] {
        daemon.accept(&json!({ "type": "a", "endpoint": name }).to_string());
        let block: Vec<_> = shown.by_ref().take_while(|line| !line.starts_with('{')).collect();
        assert!(
            block
                .iter()
                .any(|line| line.contains("POST /") && line.contains(answered)),
            "{block:?}"
        );
        assert!(block.iter().any(|line| line.contains(signature)), "{block:?}");
        assert!(
            block.iter().any(|line| line.contains("webhook-signature: v1,")),
            "{block:?}"
        );
    }
    daemon.until_dead("wrong", 1);
    receiver.kill().unwrap();
    receiver.wait().unwrap();
}
