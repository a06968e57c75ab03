//! What the examples of credentials, signatures and connections are to put on the wire.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha512};

use super::{Case, LEAD, Stage, WHSEC, by, sends, text_of, variable, variables};
use crate::harness::Setup;
use crate::harness::desks::Asked;
use crate::harness::servers::Tls;

pub(super) fn credentials() -> Vec<Case> {
    let body = "\n\n{\"email\":\"test@example.com\",\"phone\":\"5551234567\",\"first_name\":\"John\",\"last_name\":\"Doe\"}";
    let sends = |endpoint, head: &str| {
        let request: &'static str = Box::leak(format!("{head}{body}").into_boxed_str());
        sends(endpoint, request)
    };
    vec![
        sends(
            "key-in-header",
            "POST /key-in-header.example.com/leads\nx-api-key: api_key",
        ),
        sends(
            "key-in-query",
            "POST /key-in-query.example.com/leads?api_key=api_key",
        ),
        sends(
            "custom-headers",
            "POST /custom-headers.example.com/leads\nauthorization: ApiKey api_key\nx-customer-id: 12345",
        ),
        sends(
            "bearer-token",
            "POST /bearer-token.example.com/leads\nauthorization: Bearer api_token",
        ),
        sends(
            "basic",
            "POST /basic.example.com/leads\nauthorization: Basic bXl1c2VyOmFwaV9wYXNzd29yZA==",
        ),
        sends(
            "secret-by-name",
            "POST /api.internal.example.com/leads\nx-api-key: api_key",
        ),
        by("oauth", |stage, endpoint| {
            let form = "grant_type=client_credentials&client_id=posthaste&client_secret=client_secret";
            oauth(stage, endpoint, form);
        }),
        by("oauth-refresh", |stage, endpoint| {
            let form = "grant_type=refresh_token&refresh_token=refresh_token&client_id=posthaste&client_secret=client_secret";
            oauth(stage, endpoint, form);
        }),
        by("rotating-tokens", rotating),
    ]
}

fn oauth(stage: &Stage, endpoint: &str, form: &str) {
    for id in ["1", "2"].map(|number| format!("{endpoint}-{number}")) {
        stage.send(endpoint, &id, LEAD, &[]);
        assert_eq!(stage.request(&id, 1).header("authorization"), "Bearer t1");
        stage.carries_leads(&id);
    }
    let asked = stage.desk.asked();
    let mut forms = asked.iter().filter(|asked| asked.body == form);
    let token = forms.next().expect("a request for a token");
    assert_eq!(token.line, "POST /auth.example.com/token HTTP/1.1");
    assert_eq!(token.header("content-type"), "application/x-www-form-urlencoded");
    assert!(forms.next().is_none(), "one token for both");
}

/// The first token is refused, so the second one is used, in the same try and from then on.
fn rotating(stage: &Stage, endpoint: &str) {
    let reply = |status| (status, String::new(), String::new());
    stage.send(endpoint, "first", LEAD, &[reply(401), reply(200)]);
    let shown =
        |asked: Asked| [asked.header("x-auth-token"), asked.header("x-auth-version")].map(str::to_owned);
    assert_eq!(shown(stage.request("first", 1)), ["token_old", "1.0"]);
    assert_eq!(shown(stage.request("first", 2)), ["token_new", "2.0"]);
    assert_eq!(stage.attempt("first", 1)["outcome"], "delivered");
    stage.send(endpoint, "second", LEAD, &[]);
    assert_eq!(shown(stage.request("second", 1)), ["token_new", "2.0"]);
    stage.carries_leads("first");
    stage.carries_leads("second");
}

pub(super) fn signatures() -> Vec<Case> {
    vec![
        by("standard", |stage, endpoint| {
            let asked = sent(stage, endpoint);
            assert_eq!(asked.header("webhook-signature"), standard(&asked, WHSEC));
        }),
        by("timestamped", |stage, endpoint| {
            let asked = sent(stage, endpoint);
            let tag = hex(&sha256(b"signing_secret", asked.body.as_bytes()));
            assert_eq!(asked.header("x-signature"), tag);
            assert_eq!(asked.header("x-timestamp").len(), "1700000000000".len());
        }),
        by("canonical", |stage, endpoint| {
            let asked = sent(stage, endpoint);
            let time = asked.header("x-timestamp");
            let signed = format!("POST/api.example.com/v2/leads{time}{}", asked.body);
            assert_eq!(
                asked.header("x-signature"),
                hex(&sha256(b"signing_secret", signed.as_bytes()))
            );
            assert_eq!(time.len(), "1700000000".len());
        }),
        by("two-secrets", |stage, endpoint| {
            let asked = sent(stage, endpoint);
            let both = [WHSEC, &variable("OLD_WHSEC")]
                .map(|secret| standard(&asked, secret))
                .join(" ");
            assert_eq!(asked.header("webhook-signature"), both);
        }),
        by("custom-signature", |stage, endpoint| {
            let asked = sent(stage, endpoint);
            let time = asked.header("x-partner-time");
            let signed = format!("{time}\nPOST /custom-signature.example.com/leads\n{}", asked.body);
            let mut mac = Hmac::<Sha512>::new_from_slice(b"signing_secret").expect("any key");
            mac.update(signed.as_bytes());
            let tag = STANDARD.encode(mac.finalize().into_bytes());
            assert_eq!(asked.header("x-partner-signature"), format!("v2={tag}"));
            assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
        }),
    ]
}

fn sent(stage: &Stage, endpoint: &str) -> Asked {
    stage.send(endpoint, endpoint, LEAD, &[]);
    let asked = stage.request(endpoint, 1);
    assert_eq!(asked.body, LEAD, "{endpoint}");
    asked
}

fn standard(asked: &Asked, secret: &str) -> String {
    let key = STANDARD
        .decode(secret.trim_start_matches("whsec_"))
        .expect("base64");
    let [id, time] = ["webhook-id", "webhook-timestamp"].map(|name| asked.header(name));
    let tag = sha256(&key, format!("{id}.{time}.{}", asked.body).as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

pub(super) fn sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn connections() -> Vec<Case> {
    vec![
        by("kept-alive", |stage, endpoint| {
            stage.send(endpoint, endpoint, LEAD, &[]);
            assert_eq!(
                stage.request(endpoint, 1).line,
                "POST /api.example.com/leads HTTP/1.1"
            );
            stage.carries_leads(endpoint);
            let (_, shown) = stage.daemon.get(&format!("/v1/endpoints/{endpoint}"));
            let config = &shown["config"];
            assert_eq!(config["timeout"], "10s", "{config}");
            assert_eq!(config["connect_timeout"], "2s", "{config}");
            assert_eq!(config["concurrency"], 10, "{config}");
            let (_, whole) = stage.daemon.get("/v1/config");
            assert_eq!(whole["config"]["network"]["dns_cache"], "5m", "{whole}");
        }),
        by("unverified-for-development", unverified),
    ]
}

/// It leads to a server whose certificate only the example accepts.
fn unverified(_: &Stage, endpoint: &str) {
    let server = Tls::new();
    let text = text_of("connections.toml").replace("https://dev.example.com/leads", &server.url("localhost"));
    let fill = |setup: Setup, (name, value): (&str, String)| setup.env(name, &value);
    let daemon = variables(&text).into_iter().fold(Setup::new(&text), fill).start();
    let event = serde_json::json!({ "type": "lead.created", "endpoint": endpoint, "data": {} });
    daemon.accept(&event.to_string());
    daemon.until_row(endpoint, "delivered", |row| row["attempts"]["delivered"] == 1);
    assert_eq!(server.requests(), 1);
}
