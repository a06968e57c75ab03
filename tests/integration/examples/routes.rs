//! Where the examples of routing and batches are to send things.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Case, EVERYBODY, Ends, Exchange, LEAD, Run, Stage, by, sends_of};
use crate::harness::now;

/// Leads with this data go there, with the data as body.
fn goes(endpoint: &'static str, ways: &[(&'static str, &'static str)]) -> Case {
    let exchange = |&(data, to): &(&'static str, &'static str)| Exchange {
        data,
        status: 200,
        content_type: "text/plain",
        body: "",
        request: Box::leak(format!("POST {to}\n\n{data}").into_boxed_str()),
        ends: Ends::Delivered,
    };
    Case {
        endpoint,
        run: Run::Sends(ways.iter().map(exchange).collect()),
    }
}

pub(super) fn routes() -> Vec<Case> {
    vec![
        goes(
            "by-lead-type",
            &[
                (r#"{"type":"sales"}"#, "/api.example.com/sales/leads"),
                (r#"{"type":"support"}"#, "/api.example.com/marketing/leads"),
            ],
        ),
        goes(
            "by-region",
            &[
                (r#"{"region":"west"}"#, "/api.example.com/west/leads"),
                (r#"{"region":"../admin"}"#, "/api.example.com/..%2Fadmin/leads"),
            ],
        ),
        sends_of(
            "path-and-query",
            r#"{"state":"CA","product_type":"auto"}"#,
            "POST /api.company.example.com/v2/leads/CA/validate?source=landing-page&type=auto&test=false\n\n\
             {\"state\":\"CA\",\"product_type\":\"auto\"}",
        ),
        goes(
            "by-value",
            &[
                (
                    r#"{"value":101,"state":"CA"}"#,
                    "/premium.api.example.com/validate",
                ),
                (
                    r#"{"value":100,"state":"TX"}"#,
                    "/regional.api.example.com/validate",
                ),
                (
                    r#"{"value":100,"state":"NY"}"#,
                    "/standard.api.example.com/validate",
                ),
            ],
        ),
        by("after-hours", after_hours),
        by("load-balanced", load_balanced),
        by("with-backup", with_backup),
        Case {
            endpoint: "good-leads-only",
            run: Run::Sends(vec![
                Exchange {
                    data: r#"{"score":49}"#,
                    status: 200,
                    content_type: "text/plain",
                    body: "",
                    request: "",
                    ends: Ends::Skipped("Score too low for API"),
                },
                Exchange {
                    data: r#"{"score":50}"#,
                    status: 200,
                    content_type: "text/plain",
                    body: "",
                    request: "POST /good-leads-only.example.com/leads\n\n{\"score\":50}",
                    ends: Ends::Delivered,
                },
            ]),
        },
    ]
}

/// The hour may change between the request and the assertion.
fn after_hours(stage: &Stage, endpoint: &str) {
    let path = || match now().to_string()[11..13].parse() {
        Ok(9..=17) => "POST /api.example.com/office HTTP/1.1",
        _ => "POST /api.example.com/after-hours HTTP/1.1",
    };
    let before = path();
    stage.send(endpoint, endpoint, LEAD, &[]);
    let line = stage.request(endpoint, 1).line;
    assert!([before, path()].contains(&&*line), "{line}");
    stage.carries_leads(endpoint);
}

/// Of 60 leads none of three goes without, but once in 10^10 runs.
fn load_balanced(stage: &Stage, endpoint: &str) {
    for number in 0..60 {
        stage.send(endpoint, &format!("{endpoint}-{number}"), LEAD, &[]);
    }
    let is_ours = |line: &str| line.contains("/api1.") || line.contains("/api2.") || line.contains("/api3.");
    stage.asked("to one of three", 60, |asked| is_ours(&asked.line));
    let asked = stage.desk.asked();
    let lines: BTreeSet<&str> = asked
        .iter()
        .map(|asked| &*asked.line)
        .filter(|line| is_ours(line))
        .collect();
    let expected = ["1", "2", "3"].map(|number| format!("POST /api{number}.example.com/leads HTTP/1.1"));
    assert_eq!(lines, expected.iter().map(String::as_str).collect());
    stage.carries_leads(endpoint);
}

fn with_backup(stage: &Stage, endpoint: &str) {
    let reply = |status| (status, String::new(), String::new());
    stage.send(endpoint, endpoint, LEAD, &[reply(503), reply(200)]);
    let [first, second] = [1, 2].map(|count| stage.request(endpoint, count));
    assert_eq!(first.line, "POST /api.example.com/leads HTTP/1.1");
    assert_eq!(second.line, "POST /backup.api.example.com/leads HTTP/1.1");
    assert_eq!(
        (&second.body, second.header("x-posthaste-attempt")),
        (&first.body, "1")
    );
    assert_eq!(stage.attempt(endpoint, 1)["outcome"], "delivered");
    stage.carries_leads(endpoint);
}

pub(super) fn batches() -> Vec<Case> {
    vec![
        by("hundred-leads", hundred_leads),
        by("validate-batch", validate_batch),
    ]
}

fn numbered(number: usize) -> Value {
    json!({ "id": format!("L{number}"), "email": format!("test{number}@example.com"), "phone": "5551234567" })
}

/// The hundredth lead makes it go; nobody waits for the minute.
fn hundred_leads(stage: &Stage, endpoint: &str) {
    for number in 0..100 {
        stage.send(
            endpoint,
            &format!("{endpoint}-{number}"),
            &numbered(number).to_string(),
            &[],
        );
    }
    let asked = stage.asked("with all leads", 1, |asked| {
        asked.line.contains("/api.bulk.example.com/leads")
    });
    let leads: Vec<String> = (0..100)
        .map(|number| format!(r#"{{"email":"test{number}@example.com","phone":"5551234567"}}"#))
        .collect();
    assert_eq!(asked.body, format!(r#"{{"leads":[{}]}}"#, leads.join(",")));
}

/// Of a hundred leads one is no good: it is a dead letter, the others are delivered.
fn validate_batch(stage: &Stage, endpoint: &str) {
    let result = |number: usize| match number {
        7 => json!({ "id": "L7", "status": "invalid", "reason": "no such number" }),
        _ => json!({ "id": format!("L{number}"), "status": "valid" }),
    };
    let results = json!({ "results": (0..100).map(result).collect::<Vec<_>>() }).to_string();
    // What a batch will be called nobody knows beforehand.
    stage.answers(
        EVERYBODY,
        &[(200, "content-type: application/json\r\n".to_owned(), results)],
    );
    for number in 0..100 {
        stage.send(
            endpoint,
            &format!("{endpoint}-{number}"),
            &numbered(number).to_string(),
            &[],
        );
    }
    let asked = stage.asked("with all leads", 1, |asked| {
        asked.line.contains("/validate-batch")
    });
    let leads: Vec<String> = (0..100)
        .map(|number| {
            format!(
                "\n    {{ \"id\": \"L{number}\", \"email\": \"test{number}@example.com\", \"phone\": \"5551234567\" }}"
            )
        })
        .collect();
    let expected = format!(
        "{{\n  \"batch_id\": \"{}\",\n  \"leads\": [{}\n  ]\n}}\n",
        asked.header("webhook-id"),
        leads.join(",")
    );
    assert_eq!(asked.body, expected);
    let letter = stage.daemon.until_dead(endpoint, 1).remove(0);
    assert_eq!(
        (&letter["event_id"], &letter["reason"]),
        (&json!("validate-batch-7"), &json!("rejected"))
    );
    assert!(letter.to_string().contains("no such number"), "{letter}");
    stage.daemon.until_row(endpoint, "the others", |row| {
        row["attempts"]["delivered"] == 99 && row["pending"] == 0
    });
}
