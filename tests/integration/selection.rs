//! Who gets what, beyond the event's type: conditions, filters, tenants.

use serde_json::json;

use crate::harness::servers::{Target, header};
use crate::harness::{Daemon, Setup, endpoint};

fn lead(id: &str, data: &serde_json::Value) -> String {
    json!({ "type": "lead.created", "id": id, "data": data }).to_string()
}

/// B2: an event for which `when` is false is settled without a request; the log says why, status and metrics count it.
#[test]
fn b2_when_skips_and_says_why() {
    let mut target = Target::new();
    let rest = concat!(
        "bind = \"lead\"\nwhen = \"lead.score >= vars.low\"\n",
        "skip_reason = \"score {{ lead.score }} is too low for {{ endpoint.name }}\"\n",
    );
    let text = format!("[vars]\nlow = 50\n{}", endpoint("crm", &target.url("/"), rest));
    let daemon = Daemon::start(&text);
    assert_eq!(
        daemon.accept(&lead("low", &json!({"score": 49})))["deliveries"],
        1
    );
    daemon.accept(&lead("high", &json!({"score": 50})));
    assert_eq!(header(&target.next(), "webhook-id"), "high");
    daemon.until_settled("crm");
    daemon.logs("score 49 is too low for crm");
    let attempts = &daemon.row("crm")["attempts"];
    assert_eq!(
        (&attempts["skipped"], &attempts["delivered"]),
        (&json!(1), &json!(1))
    );
    let (_, metrics) = daemon.http("GET", "/metrics", None);
    assert!(
        metrics.contains("posthaste_skipped_total{endpoint=\"crm\"} 1"),
        "{metrics}"
    );
    assert_eq!(target.requests(), 1);
}

/// B2: when `when` can't be worked out, the event is neither sent nor lost: a dead letter with the reason.
#[test]
fn b2_an_undecidable_condition_is_a_dead_letter() {
    let target = Target::new();
    let text = endpoint("crm", &target.url("/"), "when = \"data.score >= 50\"");
    let daemon = Daemon::start(&text);
    daemon.accept(&lead("none", &json!({})));
    let dead = daemon.until_dead("crm", 1);
    assert_eq!(dead[0]["reason"], "render", "{}", dead[0]);
    let shown = dead[0].to_string();
    assert!(shown.contains("`data.score` is undefined"), "{shown}");
    assert_eq!(target.requests(), 0);
}

/// B3: an event that does not pass an endpoint's filter is not owed to it; others get it.
#[test]
fn b3_filters_decide_at_the_door() {
    let mut target = Target::new();
    let rest = "filter = { type = \"lead.created\", data = { score = { \"$gte\" = 50 }, tags = { \"$in\" = [\"hot\"] } } }";
    let text = endpoint("picky", &target.url("/picky"), rest) + &endpoint("all", &target.url("/all"), "");
    let daemon = Daemon::start(&text);
    for (id, data, owed) in [
        ("1", json!({"score": 50, "tags": ["hot"]}), 2),
        ("2", json!({"score": 49, "tags": ["hot"]}), 1),
        ("3", json!({"score": 90, "tags": ["cold"]}), 1),
        ("4", json!({}), 1),
    ] {
        assert_eq!(daemon.accept(&lead(id, &data))["deliveries"], owed, "{id}");
    }
    let addressed = r#"{"type":"lead.created","id":"5","endpoint":"picky","data":{}}"#;
    assert_eq!(daemon.accept(addressed)["deliveries"], 1, "its sender has chosen");
    let mut picky: Vec<_> = target
        .take(6)
        .iter()
        .filter(|got| got.path == "/picky")
        .map(|got| header(got, "webhook-id").to_owned())
        .collect();
    picky.sort();
    assert_eq!(picky, ["1", "5"]);
}

/// B7: an endpoint of a tenant gets that tenant's events alone.
#[test]
fn b7_tenants_are_kept_apart() {
    let mut target = Target::new();
    let of = |tenant: &str| {
        let url = target.url(&format!("/{tenant}"));
        endpoint(tenant, &url, &format!("tenant = \"{tenant}\""))
    };
    let text = of("acme") + &of("globex") + &endpoint("ours", &target.url("/ours"), "");
    let daemon = Daemon::start(&text);
    for (tenant, expected) in [
        (Some("acme"), vec!["/acme", "/ours"]),
        (Some("globex"), vec!["/globex", "/ours"]),
        (Some("other"), vec!["/ours"]),
        (None, vec!["/ours"]),
    ] {
        let mut event = json!({ "type": "lead.created", "data": {} });
        if let Some(tenant) = tenant {
            event["tenant"] = tenant.into();
        }
        let answer = daemon.accept(&event.to_string());
        assert_eq!(answer["deliveries"], expected.len(), "{tenant:?}");
        let got = target.take(expected.len()).into_iter();
        let mut paths: Vec<_> = got.map(|got| got.path).collect();
        paths.sort();
        assert_eq!(paths, expected, "{tenant:?}");
    }
}

/// C4: a mistake in an expression is shown with its place before anything starts.
#[test]
fn c4_check_shows_mistakes_in_expressions() {
    let text = endpoint("crm", "http://127.0.0.1:1/", "when = \"data.score|flaot > 5\"");
    let daemon = Setup::new(&text).stopped();
    let config = daemon.path("config.toml").display().to_string();
    let ran = daemon.cli(&["check", "--config", &config]).exits(1);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(
        said.contains("there is no filter `flaot`; did you mean `float`?"),
        "{said}"
    );
    assert!(said.contains("endpoint.crm.when"), "{said}");
}
