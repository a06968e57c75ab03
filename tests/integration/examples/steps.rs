//! What the examples of steps are to ask, and what they make of it.

use serde_json::json;

use super::{Case, LEAD, Reply, Stage, assert_request, by};

pub(super) fn cases() -> Vec<Case> {
    vec![
        by("blacklist-check", blacklist),
        by("phone-validation", phone_validation),
        by("multi-step-flow", multi_step),
        by("parallel-checks", parallel),
        by("secondary-service", secondary),
        by("cached-answer", cached),
        by("default-values", default_values),
        by("long-calculation", long_calculation),
        by("without-enrichment", without),
    ]
}

fn says(json: &str) -> Reply {
    (
        200,
        "content-type: application/json\r\n".to_owned(),
        json.to_owned(),
    )
}

fn fails() -> Reply {
    (500, String::new(), String::new())
}

/// What the requests of a step are called.
fn id_of(id: &str, endpoint: &str, step: &str) -> String {
    format!("{id}/{endpoint}/{step}")
}

fn requests(stage: &Stage, id: &str) -> usize {
    let asked = stage.desk.asked().into_iter();
    asked.filter(|asked| asked.header("webhook-id") == id).count()
}

/// Sends a lead, where the step called `score` is answered by `replies`; the body of the lead's own request.
fn scored(stage: &Stage, endpoint: &str, id: &str, replies: &[Reply]) -> String {
    stage.answers(&id_of(id, endpoint, "score"), replies);
    stage.send(endpoint, id, LEAD, &[]);
    stage.request(id, 1).body
}

fn blacklist(stage: &Stage, endpoint: &str) {
    let lead = r#"{"email":"test@example.com","phone":"5551234567","ip_address":"192.0.2.7"}"#;
    let step = id_of("clean", endpoint, "blacklist");
    stage.answers(
        &step,
        &[says(r#"{"is_blacklisted":false,"reason":null,"risk_score":12}"#)],
    );
    stage.send(endpoint, "clean", lead, &[]);
    assert_request(
        &stage.request(&step, 1),
        "POST /api.internal.example.com/blacklist/check\nx-api-key: api_key\ncontent-type: application/json\n\n\
         {\"email\":\"test@example.com\",\"phone\":\"5551234567\",\"ip\":\"192.0.2.7\"}",
        &step,
    );
    assert_request(
        &stage.request("clean", 1),
        "POST /buyer.example.com/leads\n\n{\"email\":\"test@example.com\",\"risk\":12}",
        "clean",
    );
    let step = id_of("listed", endpoint, "blacklist");
    stage.answers(
        &step,
        &[says(
            r#"{"is_blacklisted":true,"reason":"known fraud","risk_score":99}"#,
        )],
    );
    stage.send(endpoint, "listed", lead, &[]);
    let letter = stage.daemon.until_dead(endpoint, 1).remove(0);
    assert_eq!(
        (&letter["event_id"], &letter["reason"]),
        (&json!("listed"), &json!("rejected")),
        "{letter}"
    );
    assert!(letter.to_string().contains("known fraud"), "{letter}");
    assert_eq!(requests(stage, "listed"), 0);
}

fn phone_validation(stage: &Stage, endpoint: &str) {
    for (carrier, path) in [("Verizon", "verizon-leads"), ("Other", "leads")] {
        let id = format!("{endpoint}-{carrier}");
        let step = id_of(&id, endpoint, "phone_check");
        let answer = json!({ "carrier": carrier, "line_type": "mobile", "valid": true });
        stage.answers(&step, &[says(&answer.to_string())]);
        stage.send(endpoint, &id, r#"{"phone":"(555) 123-4567"}"#, &[]);
        assert_request(
            &stage.request(&step, 1),
            "GET /phone.example.com/lookup/5551234567",
            &step,
        );
        let expected = format!(
            "POST /crm.example.com/{path}\n\n{{\"phone\":\"(555) 123-4567\",\"carrier\":\"{carrier}\",\"line\":\"mobile\"}}"
        );
        assert_request(&stage.request(&id, 1), &expected, &id);
    }
}

fn multi_step(stage: &Stage, endpoint: &str) {
    for (id, needs_verification) in [("unsure", true), ("sure", false)] {
        let [auth, verify] = ["auth", "verify"].map(|step| id_of(id, endpoint, step));
        stage.answers(&auth, &[says(r#"{"access_token":"tok-7"}"#)]);
        let answer = json!({ "id": "v1", "needs_verification": needs_verification });
        stage.send(endpoint, id, LEAD, &[says(&answer.to_string())]);
        assert_request(
            &stage.request(&auth, 1),
            "POST /api.service.example.com/auth\n\n{\"client_id\":\"posthaste\",\"client_secret\":\"client_secret\"}",
            &auth,
        );
        assert_request(
            &stage.request(id, 1),
            "POST /api.service.example.com/validate\nauthorization: Bearer tok-7\n\n{\"email\":\"test@example.com\"}",
            id,
        );
        assert_eq!(stage.attempt(id, 1)["outcome"], "delivered");
        assert_eq!(requests(stage, &verify), usize::from(needs_verification), "{id}");
        if needs_verification {
            assert_request(
                &stage.request(&verify, 1),
                "POST /api.service.example.com/verify\nauthorization: Bearer tok-7\n\n{\"id\":\"v1\"}",
                &verify,
            );
        }
    }
}

/// None of the three is answered before all have been asked.
fn parallel(stage: &Stage, endpoint: &str) {
    for (step, answer) in [
        ("email", r#"{"valid":true}"#),
        ("phone", r#"{"valid":false}"#),
        ("list", r#"{"listed":false}"#),
    ] {
        let (status, headers, body) = says(answer);
        stage.answers(
            &id_of(endpoint, endpoint, step),
            &[(status, format!("x-together: 3\r\n{headers}"), body)],
        );
    }
    stage.send(endpoint, endpoint, LEAD, &[]);
    assert_request(
        &stage.request(endpoint, 1),
        "POST /scoring.example.com/leads\n\n{\"email_ok\":true,\"phone_ok\":false,\"listed\":false}",
        endpoint,
    );
}

fn secondary(stage: &Stage, endpoint: &str) {
    let down = (503, String::new(), String::new());
    let body = scored(stage, endpoint, endpoint, &[down, says(r#"{"score":5}"#)]);
    assert_eq!(body, r#"{"score":5}"#);
    let step = id_of(endpoint, endpoint, "score");
    let [first, second] = [1, 2].map(|count| stage.request(&step, count));
    assert_eq!(first.line, "POST /score.example.com/v1 HTTP/1.1");
    assert_eq!(second.line, "POST /backup.score.example.com/v1 HTTP/1.1");
    assert_eq!(first.body, second.body);
}

/// The same lead again is not asked about again; of one that nothing is known of, a failure is one.
fn cached(stage: &Stage, endpoint: &str) {
    for id in ["first", "second"] {
        assert_eq!(
            scored(stage, endpoint, id, &[says(r#"{"score":7}"#)]),
            r#"{"score":7}"#
        );
    }
    let counts = ["first", "second"].map(|id| requests(stage, &id_of(id, endpoint, "score")));
    assert_eq!(counts, [1, 0]);
    stage.answers(&id_of("third", endpoint, "score"), &[fails()]);
    stage.send(endpoint, "third", r#"{"email":"other@example.com"}"#, &[]);
    assert_eq!(stage.attempt("third", 1)["class"], "http_5xx");
    assert_eq!(requests(stage, "third"), 0);
}

fn default_values(stage: &Stage, endpoint: &str) {
    let body = scored(stage, endpoint, "known", &[says(r#"{"score":9}"#)]);
    assert_eq!(body, r#"{"score":9,"review":false}"#);
    let body = scored(stage, endpoint, "unknown", &[fails()]);
    assert_eq!(body, r#"{"score":0,"review":true}"#);
    assert_eq!(requests(stage, &id_of("unknown", endpoint, "score")), 2);
}

/// A step that times out has failed like one that is answered by 500.
fn long_calculation(stage: &Stage, endpoint: &str) {
    for (id, reply, score, path) in [
        ("in-time", says(r#"{"score":9}"#), 9, "/long.example.com/leads"),
        ("too-late", fails(), 0, "/long.example.com/queue"),
    ] {
        let body = scored(stage, endpoint, id, &[reply]);
        assert_eq!(body, format!(r#"{{"email":"test@example.com","score":{score}}}"#));
        let line = format!("POST {path} HTTP/1.1");
        stage.asked(path, 1, |asked| asked.line == line && asked.body == body);
    }
}

fn without(stage: &Stage, endpoint: &str) {
    let body = scored(stage, endpoint, endpoint, &[fails()]);
    assert_eq!(body, r#"{"email":"test@example.com","score":null}"#);
    assert_eq!(stage.attempt(endpoint, 1)["outcome"], "delivered");
}
