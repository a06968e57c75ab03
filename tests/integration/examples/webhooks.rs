//! What the examples of webhooks and modules are to send, and to whom.

use serde_json::{Value, json};

use super::ways::{hex, sha256};
use super::{Case, Ends, Exchange, LEAD, Run, Stage, by, sends};

pub(super) fn cases() -> Vec<Case> {
    vec![
        by("lead-tracking-webhook", lead_tracking),
        by("crm-sync", crm_sync),
        by("deal-won", deal_won),
        by("message-notifications", message),
        by("everything-of-contacts", everything),
    ]
}

/// Sends an event to whoever wants it; the names of those who get it.
fn publish(stage: &Stage, kind: &str, id: &str, tenant: Option<&str>, data: &Value) -> Vec<String> {
    let mut event = json!({ "type": kind, "id": id, "time": "2025-01-15T10:30:00Z", "data": data });
    if let Some(tenant) = tenant {
        event["tenant"] = tenant.into();
    }
    let answer = stage.daemon.accept(&event.to_string());
    let owed = answer["deliveries"].as_u64().expect("a count");
    if owed > 0 {
        stage.request(id, usize::try_from(owed).expect("few"));
    }
    let asked = stage.desk.asked();
    let ours = asked.iter().filter(|asked| asked.header("webhook-id") == id);
    let host = |line: &str| line.split(['/', ' ']).nth(2).unwrap_or_default().to_owned();
    let mut hosts: Vec<String> = ours.map(|asked| host(&asked.line)).collect();
    hosts.sort();
    hosts
}

fn lead_tracking(stage: &Stage, _: &str) {
    let lead = json!({ "email": "test@example.com", "first_name": "John", "score": 7 });
    assert_eq!(
        publish(stage, "save_lead", "saved", None, &lead),
        ["your-service.example.com"]
    );
    let asked = stage.request("saved", 1);
    assert_eq!(
        asked.line,
        "POST /your-service.example.com/webhooks/leads HTTP/1.1"
    );
    assert_eq!(asked.header("authorization"), "Bearer webhook_token");
    assert_eq!(asked.body, SAVED);
}

const SAVED: &str = r#"{ "data": {
  "email": "test@example.com", "company": "",
  "first_name": "John", "last_name": "",
  "phone": "", "website": "", "position": "",
  "twitter": "", "linkedin": "", "notes": "",
  "score": 7
} }
"#;

/// The request of `id` to `host` is an envelope, with its type and time in headers, and a signature over its bytes.
fn assert_envelope(stage: &Stage, id: &str, line: &str, kind: &str, data: &str) {
    let is_it = |asked: &super::Asked| asked.header("webhook-id") == id && asked.line.contains(line);
    let asked = stage.asked(line, 1, is_it);
    assert_eq!(asked.line, format!("POST {line} HTTP/1.1"));
    assert_eq!(asked.header("content-type"), "application/json");
    assert_eq!(asked.header("x-webhook-event"), kind);
    let time = asked.header("x-webhook-timestamp");
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    let body = format!(r#"{{"event":"{kind}","timestamp":"2025-01-15T10:30:00Z","data":{data}}}"#);
    assert_eq!(asked.body, body);
    let signature = hex(&sha256(b"signing_secret", body.as_bytes()));
    assert_eq!(asked.header("x-webhook-signature"), signature);
}

fn crm_sync(stage: &Stage, _: &str) {
    let contact = json!({ "id": "uuid", "first_name": "John", "last_name": "Doe" });
    let org = Some("org-uuid");
    let both = ["crm.example.com", "warehouse.example.com"];
    assert_eq!(publish(stage, "contact.created", "created", org, &contact), both);
    assert_envelope(
        stage,
        "created",
        "/crm.example.com/webhook",
        "contact.created",
        r#"{"id":"uuid","first_name":"John","last_name":"Doe"}"#,
    );
    assert_eq!(publish(stage, "contact.updated", "updated", org, &contact), both);
    // Neither other types nor those of other organisations.
    let others = ["warehouse.example.com"];
    assert_eq!(
        publish(stage, "contact.assigned", "assigned", org, &contact),
        others
    );
    assert_eq!(
        publish(stage, "contact.created", "foreign", Some("other"), &contact),
        others
    );
}

fn deal_won(stage: &Stage, _: &str) {
    let deal = |stage: &str| json!({ "id": "d1", "stage": stage });
    let hosts = publish(stage, "deal.stage.changed", "won", None, &deal("Won"));
    assert_eq!(hosts, ["api.example.com", "warehouse.example.com"]);
    let data = r#"{"id":"d1","stage":"Won"}"#;
    assert_envelope(stage, "won", "/api.example.com/deals", "deal.stage.changed", data);
    let hosts = publish(stage, "deal.stage.changed", "lost", None, &deal("Lost"));
    assert_eq!(hosts, ["warehouse.example.com"]);
}

fn message(stage: &Stage, _: &str) {
    let data = json!({ "text": "hello" });
    let hosts = publish(stage, "message.received", "received", None, &data);
    assert_eq!(hosts, ["notifications.example.com", "warehouse.example.com"]);
    assert_envelope(
        stage,
        "received",
        "/notifications.example.com/webhook",
        "message.received",
        r#"{"text":"hello"}"#,
    );
    assert_eq!(
        publish(stage, "message.sent", "sent", None, &data),
        ["warehouse.example.com"]
    );
}

fn everything(stage: &Stage, _: &str) {
    for kind in [
        "deal.created",
        "deal.updated",
        "deal.assigned",
        "conversation.created",
        "conversation.assigned",
        "conversation.status.changed",
        "message.delivered",
        "message.read",
        "message.failed",
        "broadcast.response",
        "zoom.recording.completed",
    ] {
        let id = kind.replace('.', "-");
        assert_eq!(
            publish(stage, kind, &id, None, &json!({})),
            ["warehouse.example.com"],
            "{kind}"
        );
    }
    assert!(publish(stage, "invoice.created", "invoice", None, &json!({})).is_empty());
}

pub(super) fn modules() -> Vec<Case> {
    vec![
        sends(
            "json-post",
            "POST /buyer.example.com/leads\ncontent-type: application/json\nx-buyer: abc\n\n{\"email\":\"test@example.com\",\"name\":\"John\"}",
        ),
        sends(
            "xml-post",
            "POST /buyer.example.com/leads.xml\ncontent-type: application/xml; charset=utf-8\n\n\
             <lead xmlns=\"urn:buyer\"><email>test@example.com</email></lead>",
        ),
        sends(
            "soap-call",
            "POST /buyer.example.com/soap\ncontent-type: text/xml; charset=utf-8\nsoapaction: \"urn:buyer#post\"\n\n\
             <?xml version=\"1.0\" encoding=\"utf-8\"?>\n<soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\">\
             <soap:Body><post xmlns=\"urn:buyer\"><email>test@example.com</email></post></soap:Body></soap:Envelope>",
        ),
        sends(
            "form-post",
            "POST /buyer.example.com/form\ncontent-type: application/x-www-form-urlencoded\n\nemail=test%40example.com&phone=5551234567",
        ),
        by("signed-webhook", |stage, endpoint| {
            stage.send(endpoint, endpoint, LEAD, &[]);
            let asked = stage.request(endpoint, 1);
            assert_eq!(asked.line, "POST /hooks.example.com/leads HTTP/1.1");
            assert!(asked.header("webhook-signature").starts_with("v1,"));
            let event = format!(
                "{{\"specversion\":\"1.0\",\"type\":\"lead.created\",\"id\":\"{endpoint}\",\"source\":\"landing-page\",\
                 \"time\":\"2026-01-15T10:30:00Z\",\"endpoint\":\"{endpoint}\",\"data\":{LEAD}}}"
            );
            assert_eq!(asked.body, event);
        }),
        sends(
            "quick-notification",
            "GET /hooks.example.com/ping?type=lead.created&id={id}",
        ),
        Case {
            endpoint: "salesforce",
            run: Run::Sends(vec![
                Exchange {
                    data: LEAD,
                    status: 201,
                    content_type: "application/json",
                    body: r#"{"id":"00Q5g00000ABCDE","success":true,"errors":[]}"#,
                    request: SALESFORCE,
                    ends: Ends::Born(r#"{"salesforce_id":"00Q5g00000ABCDE"}"#),
                },
                Exchange {
                    data: LEAD,
                    status: 400,
                    content_type: "application/json",
                    body: r#"[{"message":"Required fields are missing: [Company]","errorCode":"REQUIRED_FIELD_MISSING"}]"#,
                    request: SALESFORCE,
                    ends: Ends::Error(
                        "http_4xx",
                        "REQUIRED_FIELD_MISSING Required fields are missing: [Company]",
                    ),
                },
            ]),
        },
    ]
}

const SALESFORCE: &str = "POST /example.my.salesforce.com/services/data/v61.0/sobjects/Lead\nauthorization: Bearer t1\n\n\
    {\"LastName\":\"Doe\",\"FirstName\":\"John\",\"Company\":\"Private\",\"Email\":\"test@example.com\",\
    \"Phone\":\"5551234567\",\"LeadSource\":\"landing-page\"}";
