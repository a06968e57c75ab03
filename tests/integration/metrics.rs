//! H6: the metrics as Prometheus itself judges them, and how long attempts take, wherever that is shown.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::harness::servers::{Service, Target};
use crate::harness::{Daemon, Ran, endpoint, event, eventually, run};
use crate::required;

/// Prometheus' own tool; `None`: it is not there.
fn promtool(arguments: &[&str], input: &str) -> Option<Ran> {
    let ran = run(Command::new("promtool").args(arguments), input);
    ran.map_err(|error| required::missing("promtool", "apt-get install prometheus", error))
        .ok()
}

/// H6: Prometheus takes the metrics and the shipped rules, and its lint has nothing to say against them.
#[test]
fn h6_prometheus_takes_metrics_and_rules() {
    let target = Target::new();
    let text = "[alerts]\ndead_letters = 1\n".to_owned()
        + &endpoint("good", &target.url("/ok"), "")
        + &endpoint("refusing", &target.url("/status/404"), "");
    let daemon = Daemon::start(&text);
    daemon.accept(&event("a", "1"));
    daemon.until_settled("good");
    let metrics = daemon.http("GET", "/metrics", None).1;
    let Some(checked) = promtool(&["check", "metrics"], &metrics) else {
        return;
    };
    assert_eq!((checked.code, &*checked.err), (0, ""), "{checked:?}");
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring/alert-rules.yml");
    let checked = promtool(&["check", "rules", &rules.display().to_string()], "").map(|ran| ran.exits(0));
    assert!(
        checked.is_some_and(|ran| ran.out.contains("rules found")),
        "the rules were read"
    );
    // It does find what is wrong.
    let wrong = promtool(&["check", "metrics"], "# TYPE a_total gauge\na_total{b=\"\n");
    assert!(wrong.is_some_and(|ran| ran.code != 0));
}

/// H6: half of the attempts, 95 and 99 of 100 took at most so long: the same in the API, on the command line, and in the
/// metrics.
#[test]
fn h6_response_times_are_told_by_quantile() {
    let crm = Service::new(|asked| {
        let waits = [("slowest-", 1200), ("slow-", 300)];
        let found = waits.iter().find(|(id, _)| asked.body.contains(id));
        thread::sleep(Duration::from_millis(found.map_or(0, |(_, ms)| *ms)));
        (200, serde_json::json!({}))
    });
    let daemon = Daemon::start(&endpoint("crm", &crm.url("/"), ""));
    for (id, count) in [("fast", 36), ("slow", 3), ("slowest", 1)] {
        daemon.accept_many("a", id, count);
    }
    daemon.until_settled("crm");
    let quantiles = eventually("all are counted", || {
        let attempts = daemon.row("crm")["attempts"].clone();
        let ms = ["p50_ms", "p95_ms", "p99_ms"].map(|name| attempts[name].as_u64().unwrap_or(0));
        (attempts["delivered"] == 40).then_some(ms)
    });
    let [p50, p95, p99] = quantiles;
    assert!(
        p50 < 300 && (300..1200).contains(&p95) && p99 >= 1200,
        "{quantiles:?}"
    );

    let listed = daemon.cli(&["status", "--json"]).exits(0).lines().remove(0);
    let attempts = &listed["endpoints"][0]["attempts"];
    assert_eq!(
        ["p50_ms", "p95_ms", "p99_ms"].map(|name| attempts[name].as_u64()),
        quantiles.map(Some)
    );
    let screen = daemon.cli(&["status"]).exits(0).out;
    let row = screen.lines().find(|line| line.starts_with("crm ")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        cells[cells.len() - 3..],
        quantiles.map(|ms| format!("{ms}ms")),
        "{screen}"
    );
    let metrics = daemon.http("GET", "/metrics", None).1;
    for (quantile, ms) in ["0.5", "0.95", "0.99"].into_iter().zip(quantiles) {
        let name = format!("posthaste_attempt_duration_seconds{{endpoint=\"crm\",quantile=\"{quantile}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        let seconds: f64 = line.expect(&name).parse().unwrap();
        assert_eq!((seconds * 1000.0).round() as u64, ms, "{name}");
    }
}
