//! H1, H6: the log of attempts: every try is in it, can be found, and survives a crash; and what it adds up to.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::servers::{Scripted, Target, Tls, nobody};
use crate::harness::{Daemon, Setup, endpoint, event, eventually, files};

/// Every item of a list, a page of `limit` at a time.
fn walk(daemon: &Daemon, query: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let (code, page) = daemon.get(&format!("/v1/attempts?limit={limit}&{query}{cursor}"));
        assert_eq!(code, 200, "{query}: {page}");
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

fn endpoints(items: &[Value]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item["endpoint"].as_str().unwrap()).or_default() += 1;
    }
    counts
}

/// One event: delivered, delivered at the second try, refused, and not reached.
fn tried(target: &Target) -> Daemon {
    let again = "retry = { schedule = [\"10ms\", \"1h\"] }";
    let text = endpoint("good", &target.url("/ok"), "")
        + &endpoint("flaky", &target.url("/fail-first/1/503"), again)
        + &endpoint("dead", &target.url("/status/404"), "")
        + &endpoint(
            "nobody",
            &format!("http://{}/", nobody()),
            "retry = { delay = \"1h\" }",
        );
    let daemon = Daemon::start(&text);
    daemon.accept(&event("a", "e1"));
    daemon.until_dead("dead", 1);
    daemon.until_settled("good");
    daemon.until_settled("flaky");
    daemon.until_row("nobody", "deferred", |row| {
        row["deferred"] == 1 && row["in_flight"] == 0
    });
    daemon
}

/// H1: every try of every endpoint is there, with what was sent and what came back; whoever ends the daemon, with
/// SIGKILL even, takes none of it away.
#[test]
fn h1_every_try_is_logged_and_survives_a_crash() {
    let target = Target::new();
    let mut daemon = tried(&target);
    let all = walk(&daemon, "", 500);
    let wanted = BTreeMap::from([("good", 1), ("flaky", 2), ("dead", 1), ("nobody", 1)]);
    assert_eq!(endpoints(&all), wanted);
    assert!(
        all.is_sorted_by(|a, b| a["id"].as_u64() > b["id"].as_u64()),
        "newest first"
    );
    let of = |endpoint: &str, outcome: &str| {
        let found = all
            .iter()
            .find(|item| item["endpoint"] == endpoint && item["outcome"] == outcome);
        found
            .unwrap_or_else(|| panic!("{endpoint} {outcome}: {all:#?}"))
            .clone()
    };
    let failed = of("flaky", "error");
    assert_eq!(
        (&failed["status"], &failed["class"]),
        (&Value::from(503), &Value::from("http_5xx"))
    );
    assert_eq!(
        (&failed["event_id"], &failed["event_type"]),
        (&Value::from("e1"), &Value::from("a"))
    );
    assert!(
        failed["request_line"]
            .as_str()
            .unwrap()
            .starts_with("POST http://"),
        "{failed}"
    );
    assert!(
        failed["request_headers"].to_string().contains("webhook-id"),
        "{failed}"
    );
    let delivered = of("flaky", "delivered");
    assert_eq!(
        (&delivered["number"], &delivered["status"]),
        (&Value::from(2), &Value::from(200))
    );
    assert!(
        delivered["exchange"]["sent_bytes"].as_u64() > Some(0),
        "{delivered}"
    );
    let refused = of("nobody", "error");
    assert_eq!(
        (&refused["status"], &refused["class"]),
        (&Value::Null, &Value::from("connect"))
    );
    assert!(
        refused["message"].as_str().unwrap().contains("refused"),
        "{refused}"
    );

    daemon.kill();
    daemon.restart();
    let after = walk(&daemon, "", 2);
    assert_eq!(
        after[after.len() - all.len()..],
        all,
        "page by page, after a crash"
    );
}

/// H1: by endpoint, event, outcome, class, status and time, over the API and on the command line.
#[test]
fn h1_attempts_are_found() {
    let target = Target::new();
    let daemon = tried(&target);
    daemon.accept(&event("a", "e2"));
    daemon.until_dead("dead", 2);
    daemon.until_settled("good");
    daemon.until_settled("flaky");
    let (from, until) = ("since=1h", "until=1h");
    for (query, wanted) in [
        ("endpoint=dead", &[("dead", 2)][..]),
        (
            "event=e1",
            &[("dead", 1), ("flaky", 2), ("good", 1), ("nobody", 1)],
        ),
        ("event=e1&outcome=delivered", &[("flaky", 1), ("good", 1)]),
        (
            "event=e1&outcome=error",
            &[("dead", 1), ("flaky", 1), ("nobody", 1)],
        ),
        ("event=e1&class=connect", &[("nobody", 1)]),
        ("status=404", &[("dead", 2)]),
        (&format!("{from}&endpoint=good"), &[("good", 2)]),
        (until, &[]),
        ("event=never", &[]),
    ] {
        for limit in [1, 500] {
            let found = walk(&daemon, query, limit);
            assert_eq!(endpoints(&found), wanted.iter().copied().collect(), "{query}");
        }
    }
    for (query, code) in [
        ("endpoint=unknown", 404),
        ("outcome=lost", 400),
        ("class=slow", 400),
        ("since=tuesday", 400),
        ("cursor=x", 400),
        ("limit=0", 400),
        ("unknown=1", 400),
    ] {
        assert_eq!(daemon.get(&format!("/v1/attempts?{query}")).0, code, "{query}");
    }
    let lines = daemon
        .cli(&["attempts", "--endpoint", "dead", "--json"])
        .exits(0)
        .lines();
    assert_eq!(lines, walk(&daemon, "endpoint=dead", 500), "the same fields");
    let table = daemon
        .cli(&["attempts", "--event", "e1", "--outcome", "error", "--limit", "3"])
        .exits(0)
        .out;
    assert!(table.contains("http_4xx") && table.contains("refused"), "{table}");
    assert!(table.contains("only the newest 3"), "{table}");
    let none = daemon.cli(&["attempts", "--event", "never"]).exits(0).out;
    assert_eq!(none, "no attempts\n");
    daemon.cli(&["attempts", "--outcome", "lost"]).exits(2);
}

/// H1: an event that was delivered everywhere is still told of, as long as the log knows it.
#[test]
fn h1_events_show_what_was_tried() {
    let target = Target::new();
    let daemon = tried(&target);
    let (code, shown) = daemon.get("/v1/events/e1");
    assert_eq!((code, &shown["kept"]), (200, &Value::from(true)));
    let states: BTreeMap<&str, (&str, usize)> = shown["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|delivery| {
            let text = |field: &str| delivery[field].as_str().unwrap();
            let attempts = delivery["attempts"].as_array().unwrap().len();
            (text("endpoint"), (text("state"), attempts))
        })
        .collect();
    let wanted = [
        ("good", ("delivered", 1)),
        ("flaky", ("delivered", 2)),
        ("dead", ("dead", 1)),
        ("nobody", ("deferred", 1)),
    ];
    assert_eq!(states, BTreeMap::from(wanted));

    daemon.accept(&event("a", "e2"));
    daemon.until_dead("dead", 2);
    let list = daemon.cli(&["dead", "list", "--json"]).exits(0).out;
    let shown = daemon
        .cli_with(&["events", "show", "--json", "e1", "nothing", "-"], &list)
        .exits(1);
    let ids: Vec<Value> = shown.lines().iter().map(|view| view["id"].clone()).collect();
    assert_eq!(ids, ["e1", "e1", "e2"], "one given, two read: {shown:?}");
    assert!(
        shown.err.contains("nothing"),
        "what is not there is said: {shown:?}"
    );

    let only = Setup::new(&endpoint("good", &target.url("/ok"), "")).start();
    only.accept(&event("a", "e9"));
    let shown = eventually("the event is over", || {
        let (code, shown) = only.get("/v1/events/e9");
        (code == 200 && shown["kept"] == false).then_some(shown)
    });
    assert_eq!(
        (&shown["type"], &shown["event"]),
        (&Value::from("a"), &Value::Null)
    );
    assert_eq!(shown["deliveries"][0]["state"], "delivered");
    assert_eq!(shown["deliveries"][0]["attempts"][0]["status"], 200);
    let text = only.cli(&["events", "show", "e9"]).exits(0).out;
    assert!(
        text.contains("not kept any more") && text.contains("delivered"),
        "{text}"
    );
    assert_eq!(only.get("/v1/events/e10").0, 404);
}

/// H1: where the time went: looking up, connecting, waiting, reading; a second request finds its connection open.
#[test]
fn h1_time_is_told_by_phase() {
    let target = Target::new();
    let by_name = target.url("/slow/60").replace("127.0.0.1", "localhost");
    let daemon = Daemon::start(&endpoint("slow", &by_name, ""));
    for id in ["e1", "e2"] {
        daemon.accept(&event("a", id));
        daemon.until_settled("slow");
    }
    let all = eventually("two attempts", || {
        Some(walk(&daemon, "", 500)).filter(|all| all.len() == 2)
    });
    let us = |item: &Value, phase: &str| item["exchange"][phase].as_u64();
    let (second, first) = (&all[0], &all[1]);
    assert_eq!(first["exchange"]["reused"], false);
    assert!(
        us(first, "dns_us").is_some() && us(first, "connect_us").is_some(),
        "{first}"
    );
    assert_eq!(second["exchange"]["reused"], true);
    assert_eq!((us(second, "dns_us"), us(second, "connect_us")), (None, None));
    assert_eq!((us(first, "tls_us"), us(second, "tls_us")), (None, None));
    for item in [first, second] {
        assert!(us(item, "first_byte_us") >= Some(60_000), "{item}");
        let phases = ["dns_us", "connect_us", "first_byte_us", "body_us"];
        let sum: u64 = phases.iter().filter_map(|phase| us(item, phase)).sum();
        assert!(Some(sum) <= us(item, "total_us"), "{item}");
    }
    let (_, metrics) = daemon.http("GET", "/metrics", None);
    for line in [
        "posthaste_requests_total{endpoint=\"slow\",connection=\"new\"} 1",
        "posthaste_requests_total{endpoint=\"slow\",connection=\"reused\"} 1",
        "posthaste_request_phase_seconds_total{endpoint=\"slow\",phase=\"first_byte\"} 0.1",
        "posthaste_store_attempts_dropped_total 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

/// H1: the TLS handshake is told apart from connecting: where it succeeds, where it fails, and where it never ends. A
/// second request finds its connection open and has neither.
#[test]
fn h1_a_tls_handshake_is_a_phase_of_its_own() {
    let server = Tls::new();
    // The kernel connects, and nobody ever answers the hello.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("https://{}/", silent.local_addr().unwrap());
    let once = "retry = { max_attempts = 1 }";
    let mut daemon = Setup::new("").stopped();
    std::fs::write(daemon.path("ca.pem"), server.authority()).unwrap();
    daemon.write_config(
        &(endpoint("secure", &server.url("localhost"), "tls = { ca = \"ca.pem\" }")
            + &endpoint("stranger", &server.url("localhost"), once)
            + &endpoint(
                "silent",
                &silent_url,
                &format!("connect_timeout = \"300ms\"\n{once}"),
            )),
    );
    daemon.restart();
    daemon.accept(&event("a", "e1"));
    for name in ["stranger", "silent"] {
        daemon.until_dead(name, 1);
    }
    daemon.until_settled("secure");
    daemon.accept(r#"{"type":"a","id":"e2","endpoint":"secure"}"#);
    daemon.until_settled("secure");
    let of = |name: &str, count: usize| {
        eventually("their attempts", || {
            Some(walk(&daemon, &format!("endpoint={name}"), 500)).filter(|all| all.len() == count)
        })
    };
    let us = |item: &Value, phase: &str| item["exchange"][phase].as_u64();
    let secure = of("secure", 2);
    let (second, first) = (&secure[0], &secure[1]);
    assert!(
        us(first, "tls_us") > Some(0) && us(first, "connect_us") > Some(0),
        "{first}"
    );
    let phases = ["dns_us", "connect_us", "tls_us", "first_byte_us", "body_us"];
    let sum: u64 = phases.iter().filter_map(|phase| us(first, phase)).sum();
    assert!(Some(sum) <= us(first, "total_us"), "{first}");
    assert_eq!(second["exchange"]["reused"], true, "{second}");
    assert_eq!((us(second, "connect_us"), us(second, "tls_us")), (None, None));
    for (name, at_least) in [("stranger", 1), ("silent", 250_000)] {
        let failed = &of(name, 1)[0];
        assert!(us(failed, "tls_us") >= Some(at_least), "{failed}");
        assert!(
            us(failed, "connect_us").is_some_and(|us| us < 250_000),
            "{failed}"
        );
        assert_eq!(us(failed, "first_byte_us"), None, "{failed}");
    }
    let (_, metrics) = daemon.http("GET", "/metrics", None);
    let line = "posthaste_request_phase_seconds_total{endpoint=\"silent\",phase=\"tls\"} 0.";
    assert!(metrics.contains(line), "{metrics}");
}

/// H6: the share of attempts that succeed, and of errors by class, of the last minute.
#[test]
fn h6_the_status_tells_how_much_succeeds() {
    let target = Target::new();
    let daemon = tried(&target);
    let rates = |name: &str| {
        let attempts = daemon.row(name)["attempts"].clone();
        (attempts["success_rate"].clone(), attempts["error_rates"].clone())
    };
    assert_eq!(rates("good"), (1.0.into(), serde_json::json!({})));
    assert_eq!(
        rates("flaky"),
        (0.5.into(), serde_json::json!({ "http_5xx": 0.5 }))
    );
    assert_eq!(
        rates("nobody"),
        (0.0.into(), serde_json::json!({ "connect": 1.0 }))
    );
}

/// H1: what was said in attempts that delivered is kept like that of failures, if that is wanted: in the log, of an event,
/// of each event of a batch, after a crash; and masked.
#[test]
fn h1_requests_and_answers_of_all_attempts_are_kept_if_wanted() {
    let answers = |json: &'static str| {
        Scripted::new(move |_| {
            let length = json.len();
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nx-judge: here\r\n\r\n{json}"
            )
        })
    };
    let thankful = answers(r#"{"thanks":"tok-hunter2"}"#);
    let judge = answers(r#"{"results":[{"id":"b1","status":"success"},{"id":"b2","status":"no"}]}"#);
    let more = "headers = { Authorization = \"Bearer tok-hunter2\" }";
    let batch = "batch = { max_events = 2, max_wait = \"30s\", items = \"response.results\" }";
    let mut daemon = Setup::new(
        &(endpoint("one", &thankful.url(), &format!("events = [\"single\"]\n{more}"))
            + &endpoint("many", &judge.url(), &format!("events = [\"several\"]\n{batch}"))),
    )
    .store("attempts_detail = \"all\"")
    .start();
    daemon.accept(&event("single", "e1"));
    daemon.accept(&event("several", "b1"));
    daemon.accept(&event("several", "b2"));
    daemon.until_settled("one");
    daemon.until_dead("many", 1);
    daemon.kill();
    daemon.restart();
    let all = walk(&daemon, "outcome=delivered", 500);
    assert_eq!(endpoints(&all), [("many", 1), ("one", 1)].into());
    let of = |name: &str| all.iter().find(|item| item["endpoint"] == name).unwrap();
    let pair = |name: &str, value: &str| serde_json::json!([name, value]);
    let has = |item: &Value, list: &str, pair: Value| item[list].as_array().unwrap().contains(&pair);
    let one = of("one");
    assert_eq!(one["request_line"], format!("POST {}", thankful.url()));
    assert!(
        has(one, "request_headers", pair("authorization", "[secret]")),
        "{one}"
    );
    assert!(has(one, "request_headers", pair("webhook-id", "e1")), "{one}");
    assert!(has(one, "response_headers", pair("x-judge", "here")), "{one}");
    assert_eq!(one["response_excerpt"], r#"{"thanks":"[secret]"}"#);
    assert_eq!(of("many")["request_line"], format!("POST {}", judge.url()));
    assert!(
        of("many")["response_excerpt"]
            .as_str()
            .unwrap()
            .contains("results")
    );
    let (_, shown) = daemon.get("/v1/events/e1");
    assert_eq!(
        shown["deliveries"][0]["attempts"][0]["response_excerpt"],
        one["response_excerpt"]
    );
    let text = daemon.cli(&["events", "show", "e1"]).exits(0).out;
    for part in ["webhook-id: e1", "x-judge: here", r#"{"thanks":"[secret]"}"#] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(
        daemon.get("/v1/config").1["config"]["store"]["attempts_detail"],
        "all"
    );
}

/// H1: who wants no log has none.
#[test]
fn h1_the_log_can_be_left_out() {
    let target = Target::new();
    let daemon = Setup::new(&endpoint("good", &target.url("/ok"), ""))
        .store("attempts_max_size = \"0B\"")
        .start();
    daemon.accept(&event("a", "e1"));
    daemon.until_row("good", "delivered", |row| {
        row["attempts"]["delivered"] == 1 && row["pending"] == 0
    });
    assert_eq!(walk(&daemon, "", 500), [] as [Value; 0]);
    assert_eq!(files(&daemon.path("queue/attempts")).len(), 0);
    assert_eq!(daemon.get("/v1/events/e1").0, 404);
}
