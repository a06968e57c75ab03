//! Whom the examples of alerts tell, and how their saved cases end.

use serde_json::json;

use super::{Case, LEAD, Stage, by};

pub(super) fn cases() -> Vec<Case> {
    vec![by("watched", watched), by("tell-the-team", told)]
}

/// The cases are run against the receiver as `posthaste test` runs them, and fail when it says no.
fn watched(stage: &Stage, endpoint: &str) {
    let config = stage.daemon.path("config.toml").display().to_string();
    let test = || {
        stage
            .daemon
            .cli(&["test", endpoint, "--config", &config, "--json"])
    };
    let ran = test().exits(0).lines();
    let ends: Vec<_> = ran.iter().map(|ran| (&ran["passed"], &ran["status"])).collect();
    assert_eq!(
        ends,
        [(&json!(true), &json!(200)), (&json!(true), &json!(null))],
        "{ran:?}"
    );
    let body = stage
        .asked("of the case", 1, |asked| asked.line.contains("/crm.example.com/"))
        .body;
    assert_eq!(body, r#"{"email":"test@example.com","name":"JOHN"}"#);
}

/// Three answers with 401 in a row, and the team knows.
fn told(stage: &Stage, _: &str) {
    let (_, whole) = stage.daemon.get("/v1/config");
    let alerts = &whole["config"]["alerts"];
    assert_eq!(
        (
            &alerts["response_time_p95"],
            &alerts["error_rate"],
            &alerts["auth_failures"]
        ),
        (&json!("5s"), &json!(0.05), &json!(3)),
        "{whole}"
    );
    for id in ["refused-1", "refused-2", "refused-3"] {
        stage.send("watched", id, LEAD, &[(401, String::new(), String::new())]);
    }
    let expected = "posthaste.alert.raised: watched auth_failures";
    let told = stage.asked("of the team", 1, |asked| {
        asked.line.contains("/chat.example.com/") && asked.body.trim_end() == expected
    });
    assert_eq!(told.line, "POST /chat.example.com/hooks/team HTTP/1.1");
}
