//! H7: alerts are raised once and cleared once, as events for those who name them, in the status and in the log.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::harness::servers::{Judge, Target};
use crate::harness::{Daemon, endpoint, event, eventually};

/// What an alert event says: its type, whom it is about and what.
fn told(body: &[u8]) -> Value {
    let event: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(
        (&event["source"], &event["subject"]),
        (&json!("/posthaste"), &event["data"]["endpoint"])
    );
    assert!(event["data"]["since"].is_string(), "{event}");
    let data = &event["data"];
    json!([
        event["type"],
        data["endpoint"],
        data["alert"],
        data["limit"],
        data["value"].as_f64() >= data["limit"].as_f64()
    ])
}

/// H7: three answers with 401 raise an alert, an answer with 200 ends it. An endpoint for alerts that fails itself
/// raises none, and one that asks for everything gets none.
#[test]
fn h7_auth_failures_are_raised_and_cleared() {
    let status = Arc::new(AtomicU16::new(401));
    let answer = Arc::clone(&status);
    let crm = Judge::new(move |_| answer.load(Ordering::Relaxed));
    let broken = Judge::new(|_| 401);
    let (mut ops, mut all) = (Target::new(), Target::new());
    let text = "[alerts]\nauth_failures = 3\ndead_letters = 1\nerror_rate = 0\n".to_owned()
        + &endpoint("crm", &crm.url(), "events = [\"lead\"]")
        + &endpoint("all", &all.url("/"), "")
        + &endpoint("ops", &ops.url("/"), "events = [\"posthaste.alert.*\"]")
        + &endpoint(
            "ops-broken",
            &broken.url(),
            "events = [\"posthaste.alert.raised\"]",
        );
    let daemon = Daemon::start(&text);
    let alerts = || daemon.get("/v1/status").1["alerts"].clone();
    assert_eq!(alerts(), json!([]));
    daemon.accept_many("lead", "bad", 3);

    let mut raised: Vec<Value> = ops.take(2).iter().map(|seen| told(&seen.body)).collect();
    raised.sort_by_key(ToString::to_string);
    assert_eq!(
        raised,
        [
            json!(["posthaste.alert.raised", "crm", "auth_failures", 3.0, true]),
            json!(["posthaste.alert.raised", "crm", "dead_letters", 1.0, true]),
        ]
    );
    assert_eq!(alerts().as_array().unwrap().len(), 2);
    let shown = daemon.cli(&["status"]).exits(0).out;
    assert!(shown.contains("crm is past auth_failures"), "{shown}");
    let metrics = daemon.http("GET", "/metrics", None).1;
    assert!(
        metrics.contains("posthaste_alert{endpoint=\"crm\",alert=\"auth_failures\"} 1"),
        "{metrics}"
    );
    daemon.logs("alert raised");

    status.store(200, Ordering::Relaxed);
    daemon.accept(&event("lead", "good"));
    let cleared = ops.take(1).remove(0);
    assert_eq!(
        told(&cleared.body),
        json!(["posthaste.alert.cleared", "crm", "auth_failures", 3.0, false])
    );
    let left = alerts();
    assert_eq!(
        (left.as_array().unwrap().len(), &left[0]["alert"]),
        (1, &json!("dead_letters"))
    );

    daemon.post("/v1/dead/purge", &json!({ "filter": { "endpoint": "crm" } }));
    let cleared = ops.take(1).remove(0);
    assert_eq!(told(&cleared.body)[2], "dead_letters");
    eventually("no alert is left", || (alerts() == json!([])).then_some(()));
    assert_eq!(
        daemon.row("ops-broken")["dead"],
        2,
        "its own dead letters raise nothing"
    );
    let kinds: Vec<Value> = all
        .take(4)
        .iter()
        .map(|seen| serde_json::from_slice::<Value>(&seen.body).unwrap()["type"].clone())
        .collect();
    assert_eq!(kinds, ["lead"; 4]);
    assert_eq!(all.requests(), 4, "everything is not the daemon's own");
}

/// H7: an endpoint that fails goes on failing over a restart, though nothing is sent to it meanwhile; one that has
/// delivered since does not.
#[test]
fn h7_failing_for_outlives_a_restart() {
    let bad = Judge::new(|_| 500);
    let mixed = Judge::new(|body| if body.contains("\"bad\"") { 500 } else { 200 });
    let retry = "retry = { delay = \"1h\" }";
    let text = "[alerts]\nfailing_for = \"1s\"\nerror_rate = 0\n".to_owned()
        + &endpoint("bad", &bad.url(), retry)
        + &endpoint("mixed", &mixed.url(), retry);
    let mut daemon = Daemon::start(&text);
    daemon.accept(&event("a", "bad"));
    for name in ["bad", "mixed"] {
        daemon.until_row(name, "one waits", |row| row["deferred"] == 1);
    }
    daemon.accept(&json!({ "type": "a", "id": "good", "endpoint": "mixed" }).to_string());
    daemon.until_row("mixed", "one delivered", |row| {
        row["attempts"]["delivered"] == 1 && row["pending"] == 1
    });
    daemon.kill();
    daemon.restart();
    let alerts = eventually("an alert", || {
        let alerts = daemon.get("/v1/status").1["alerts"].clone();
        (alerts != json!([])).then_some(alerts)
    });
    assert_eq!(alerts.as_array().unwrap().len(), 1, "{alerts}");
    assert_eq!(
        (&alerts[0]["endpoint"], &alerts[0]["alert"]),
        (&json!("bad"), &json!("failing_for"))
    );
    assert_eq!(bad.seen().len(), 1, "nothing was sent after the restart");
}

/// H6: the shipped Grafana dashboard and alerting rules ask for metrics that there are.
#[test]
fn h6_the_shipped_monitoring_names_real_metrics() {
    let daemon = Daemon::start("");
    let metrics = daemon.http("GET", "/metrics", None).1;
    let served: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    for file in ["alert-rules.yml", "grafana-dashboard.json"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs/monitoring")
            .join(file);
        let text = fs::read_to_string(path).unwrap();
        let named: BTreeSet<&str> = text
            .split(|letter: char| !letter.is_ascii_lowercase() && letter != '_')
            .filter(|word| word.starts_with("posthaste_"))
            .collect();
        assert!(named.len() >= 8, "{file}: {named:?}");
        let missing: Vec<_> = named.difference(&served).collect();
        assert!(missing.is_empty(), "{file}: {missing:?}");
    }
    let dashboard = include_str!("../../docs/monitoring/grafana-dashboard.json");
    serde_json::from_str::<Value>(dashboard).unwrap();
}

/// H6: docs/METRICS.md says of every metric what the daemon says of it, and of no other.
#[test]
fn h6_every_metric_is_documented() {
    let target = Target::new();
    let traces = format!("[traces]\nendpoint = \"{}\"\n", target.url("/"));
    let daemon = Daemon::start(&(traces + &endpoint("crm", &target.url("/"), "")));
    let metrics = daemon.http("GET", "/metrics", None).1;
    let after = |word: &str, name: &str| {
        let found = metrics
            .lines()
            .find_map(|line| line.strip_prefix(&format!("# {word} {name} ")));
        found.unwrap_or_default().to_owned()
    };
    let served: BTreeSet<(String, String, String)> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
        .map(|name| (name.to_owned(), after("TYPE", name), after("HELP", name)))
        .collect();
    let rows = include_str!("../../docs/METRICS.md").lines();
    let rows = rows.filter_map(|line| line.strip_prefix("| `posthaste_")?.strip_suffix(" |"));
    let documented: BTreeSet<(String, String, String)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let name = format!("posthaste_{}", cells[0].trim_end_matches('`'));
            (name, cells[1].to_owned(), cells[cells.len() - 1].to_owned())
        })
        .collect();
    assert_eq!(documented, served);
}
