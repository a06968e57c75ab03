//! D: credentials and client certificates on requests that the built daemon really sends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::harness::desks::{Asked, Desk, MutualTls};
use crate::harness::servers::{Target, header, nobody};
use crate::harness::{BOUND, Daemon, Setup, endpoint, event, eventually};

/// Looks everywhere that a person looks for any of these texts.
fn assert_hidden(daemon: &Daemon, secrets: &[&str]) {
    let mut shown: Vec<_> = ["/v1/config", "/v1/endpoints", "/v1/dead?with=event", "/v1/status"]
        .map(|path| daemon.http("GET", path, None).1)
        .into();
    shown.push(daemon.log());
    for (text, secret) in shown
        .iter()
        .flat_map(|text| secrets.iter().map(move |secret| (text, secret)))
    {
        assert!(!text.contains(secret), "{secret} is shown: {text:.3000}");
    }
}

/// D1: an API key in a header or in the query, a bearer token, a user with a password; and no trace of them.
#[test]
fn d1_fixed_credentials() {
    let secrets = ["k3y-in-header", "k3y-in-query", "t0ken", "pa55word"];
    let cases = [
        (
            "header-key",
            "type = \"api_key\", name = \"X-API-Key\", value = \"k3y-in-header\"",
        ),
        (
            "query-key",
            "type = \"api_key\", name = \"key\", in = \"query\", value = \"k3y-in-query\"",
        ),
        ("bearer", "type = \"bearer\", token = \"t0ken\""),
        (
            "basic",
            "type = \"basic\", username = \"ada\", password = \"pa55word\"",
        ),
    ];
    let mut target = Target::new();
    let text: String = cases
        .iter()
        .map(|(name, auth)| {
            endpoint(
                name,
                &target.url("/status/404?a=b"),
                &format!("auth = {{ {auth} }}"),
            )
        })
        .collect();
    let daemon = Daemon::start(&format!("[log]\nlevel = \"debug\"\n{text}"));
    daemon.accept(&event("a", "e1"));
    let requests = target.take(cases.len());
    let has = |name: &str, value: &str| requests.iter().any(|request| header(request, name) == value);
    assert!(has("x-api-key", "k3y-in-header"));
    assert!(has("authorization", "Bearer t0ken"));
    assert!(has("authorization", "Basic YWRhOnBhNTV3b3Jk"));
    let with_query = |query: &str| requests.iter().filter(|r| r.path.ends_with(query)).count();
    assert_eq!((with_query("?a=b&key=k3y-in-query"), with_query("?a=b")), (1, 3));
    for (name, _) in cases {
        daemon.until_dead(name, 1);
    }
    assert_hidden(&daemon, &secrets);
}

/// A token endpoint whose n-th token is `tN`, and an API that takes the newest only.
struct Cloud {
    tokens: Desk,
    api: Desk,
    newest: Arc<AtomicUsize>,
}

impl Cloud {
    /// Tokens say that they expire in `expires_in` seconds.
    fn new(expires_in: u32) -> Self {
        let newest = Arc::new(AtomicUsize::new(0));
        let (given, good) = (Arc::clone(&newest), Arc::clone(&newest));
        let tokens = Desk::new(move |_| {
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            let token = json!({ "access_token": format!("t{number}"), "expires_in": expires_in, "refresh_token": format!("r{number}") });
            (200, token.to_string())
        });
        let api = Desk::new(move |request| {
            let number = good.load(Ordering::SeqCst);
            let is_good = request.header("authorization") == format!("Bearer t{number}");
            (if is_good { 200 } else { 401 }, String::new())
        });
        Self { tokens, api, newest }
    }

    fn endpoint(&self, name: &str, rest: &str) -> String {
        let auth = format!(
            "auth = {{ type = \"oauth2\", token_url = \"{}\", client_id = \"posthaste\", client_secret = \"s3cret&\", {rest} }}",
            self.tokens.url("/token")
        );
        endpoint(
            name,
            &self.api.url("/"),
            &format!("{auth}\nretry = {{ delay = \"10ms\" }}"),
        )
    }
}

/// D2: one token for all requests of all endpoints with the same client, asked for as RFC 6749 §4.4.2 has it.
#[test]
fn d2_one_token_for_all() {
    let cloud = Cloud::new(3600);
    let more = "scope = \"a b\", params = { audience = \"x\" }";
    let daemon = Daemon::start(&(cloud.endpoint("one", more) + &cloud.endpoint("two", more)));
    daemon.accept_many("a", "e", 40);
    daemon.until_settled("one");
    daemon.until_settled("two");
    let tokens = cloud.tokens.asked();
    assert_eq!(
        (tokens.len(), cloud.api.asked().len()),
        (1, 80),
        "one look for everybody"
    );
    assert_eq!(tokens[0].line, "POST /token HTTP/1.1");
    assert_eq!(
        tokens[0].header("content-type"),
        "application/x-www-form-urlencoded"
    );
    assert_eq!(
        tokens[0].body,
        "grant_type=client_credentials&client_id=posthaste&client_secret=s3cret%26&scope=a+b&audience=x"
    );
    assert_hidden(&daemon, &["s3cret&", "t1"]);
}

/// D2: a 401 fetches a new token once, and the request is made again in the same try; many that are refused at once
/// share the new one.
#[test]
fn d2_a_401_renews_once() {
    let cloud = Cloud::new(3600);
    let daemon = Daemon::start(&cloud.endpoint("api", "auth_style = \"basic\""));
    daemon.accept(&event("a", "first"));
    daemon.until_settled("api");
    // The server forgets its token: the next one it gives is t3.
    cloud.newest.fetch_add(1, Ordering::SeqCst);
    daemon.accept_many("a", "e", 20);
    daemon.until_settled("api");
    let tokens = cloud.tokens.asked();
    assert_eq!(tokens.len(), 2);
    assert_eq!(
        tokens[1].header("authorization"),
        "Basic cG9zdGhhc3RlOnMzY3JldCUyNg=="
    );
    assert_eq!(tokens[1].body, "grant_type=client_credentials");
    let firsts = |request: &&Asked| request.header("x-posthaste-attempt") == "1";
    let asked = cloud.api.asked();
    assert_eq!(
        asked.iter().filter(firsts).count(),
        asked.len(),
        "no try was spent on it"
    );
    assert_eq!(daemon.get("/v1/dead").1["items"], json!([]));

    // Refused whatever the token: once more, and no further.
    let stubborn = Desk::new(|_| (401, String::new()));
    daemon.write_config(
        &cloud
            .endpoint("api", "")
            .replace(&cloud.api.url("/"), &stubborn.url("/")),
    );
    assert_eq!(daemon.post("/v1/reload", &json!({})).0, 200);
    daemon.accept(&event("a", "last"));
    let dead = daemon.until_dead("api", 1);
    assert_eq!(
        (&dead[0]["tries"], stubborn.asked().len()),
        (&json!(1), 2),
        "{dead:?}"
    );
}

/// D2: a token is renewed before it expires, while requests go on with the old one.
#[test]
fn d2_tokens_are_renewed_before_they_expire() {
    let given = AtomicUsize::new(0);
    let (asked, went_on) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new((Mutex::new(false), Condvar::new())),
    );
    let (renewing, held) = (Arc::clone(&asked), Arc::clone(&went_on));
    let tokens = Desk::new(move |_| {
        let number = given.fetch_add(1, Ordering::SeqCst) + 1;
        if number == 2 {
            renewing.store(true, Ordering::SeqCst);
            // Given out only once another request has gone on without it.
            let went_on = held.0.lock().unwrap();
            drop(held.1.wait_timeout_while(went_on, BOUND, |went_on| !*went_on));
        }
        let token = json!({ "access_token": format!("t{number}"), "expires_in": 5 });
        (200, token.to_string())
    });
    let open = Arc::clone(&went_on);
    let api = Desk::new(move |request| {
        if asked.load(Ordering::SeqCst) && request.header("authorization") == "Bearer t1" {
            *open.0.lock().unwrap() = true;
            open.1.notify_all();
        }
        (200, String::new())
    });
    let auth = format!(
        "auth = {{ type = \"oauth2\", token_url = \"{}\", client_id = \"c\", client_secret = \"s\" }}",
        tokens.url("/")
    );
    let daemon = Daemon::start(&endpoint("api", &api.url("/"), &auth));
    let mut number = 0;
    eventually("the second token is used", || {
        number += 1;
        daemon.accept(&event("a", &format!("e{number}")));
        daemon.until_settled("api");
        let asked = api.asked();
        (asked.last()?.header("authorization") == "Bearer t2").then_some(())
    });
    assert!(*went_on.0.lock().unwrap(), "it was renewed beside the requests");
}

/// D2: a refresh token is used, and the one that takes its place, also after a reload.
#[test]
fn d2_refresh_tokens_are_replaced() {
    let cloud = Cloud::new(3600);
    let grant = "grant = \"refresh_token\", refresh_token = \"r0\"";
    let daemon = Daemon::start(&cloud.endpoint("api", grant));
    for number in 0..3 {
        daemon.accept(&event("a", &format!("e{number}")));
        daemon.until_settled("api");
        cloud.newest.fetch_add(100, Ordering::SeqCst);
        daemon.write_config(&(cloud.endpoint("api", grant) + &format!("timeout = \"{}s\"\n", 20 + number)));
        assert_eq!(daemon.post("/v1/reload", &json!({})).0, 200);
    }
    let used: Vec<_> = cloud
        .tokens
        .asked()
        .into_iter()
        .map(|request| request.body)
        .collect();
    for (body, token) in used.iter().zip(["r0", "r1", "r102"]) {
        assert!(
            body.starts_with(&format!(
                "grant_type=refresh_token&refresh_token={token}&client_id=posthaste"
            )),
            "{body}"
        );
    }
    assert_eq!(used.len(), 3);
}

/// D2: without a token there is no request; the reason names the token endpoint, and what is worth another try is
/// tried again.
#[test]
fn d2_a_failing_token_endpoint() {
    let api = Target::new();
    let refusing = Desk::new(|_| {
        (
            400,
            json!({ "error": "invalid_client", "error_description": "not s3cret" }).to_string(),
        )
    });
    let failures = AtomicUsize::new(0);
    let recovering = Desk::new(move |_| match failures.fetch_add(1, Ordering::SeqCst) {
        0 => (503, String::new()),
        1 => (200, "no JSON".to_owned()),
        _ => (200, json!({ "access_token": "t" }).to_string()),
    });
    let make = |name: &str, token_url: &str| {
        let auth = format!(
            "auth = {{ type = \"oauth2\", token_url = \"{token_url}\", client_id = \"c\", client_secret = \"s3cret\" }}"
        );
        endpoint(
            name,
            &api.url("/ok"),
            &format!("{auth}\nretry = {{ delay = \"20ms\", max_attempts = 3 }}"),
        )
    };
    let gone = format!("http://{}/", nobody());
    let daemon = Daemon::start(
        &(make("refused", &refusing.url("/token"))
            + &make("gone", &gone)
            + &make("recovering", &recovering.url("/token"))),
    );
    daemon.accept(&event("a", "e1"));
    let refused = daemon.until_dead("refused", 1);
    let message = refused[0]["last"]["message"].as_str().unwrap_or_default();
    let url = refusing.url("/token");
    assert_eq!(
        message,
        format!(
            "no access token from {url}: it answered 400 invalid_client: not [secret]; check client_id, client_secret, scope and token_url in auth"
        ),
    );
    assert_eq!((&refused[0]["tries"], refusing.asked().len()), (&json!(1), 1));
    let gone = daemon.until_dead("gone", 1);
    assert_eq!(gone[0]["tries"], 3, "{gone:?}");
    let message = gone[0]["last"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("Connection refused") && message.ends_with("check token_url in auth"),
        "{message}"
    );
    daemon.until_settled("recovering");
    assert_eq!((recovering.asked().len(), api.requests()), (3, 1));
}

/// D2: requests that wait for the same token share its failure too, so that a token endpoint in trouble is asked once
/// for all of them.
#[test]
fn d2_a_failure_is_shared() {
    let slow = Desk::new(|_| {
        std::thread::sleep(Duration::from_millis(500));
        (503, String::new())
    });
    let auth = format!(
        "auth = {{ type = \"oauth2\", token_url = \"{}\", client_id = \"c\", client_secret = \"s\" }}",
        slow.url("/")
    );
    let more = format!(
        "{auth}\nconcurrency = 20\nretry = {{ max_attempts = 1 }}\nbreaker = {{ failures = 1000, rate = 1.0 }}"
    );
    let daemon = Daemon::start(&endpoint("api", "http://127.0.0.1:9/", &more));
    daemon.accept_many("a", "e", 20);
    daemon.until_dead("api", 20);
    assert!(
        slow.asked().len() < 10,
        "{} requests for a token",
        slow.asked().len()
    );
}

/// D3: the next token of the list after a 401, with its version, in the same try; and it stays in use.
#[test]
fn d3_tokens_rotate() {
    let api = Desk::new(|request| {
        let is_good = request.header("x-auth-token") == "t3" && request.header("x-auth-version") == "2.0";
        (if is_good { 200 } else { 401 }, String::new())
    });
    let auth = "auth = { type = \"rotating\", header = \"X-Auth-Token\", version_header = \"X-Auth-Version\", \
                values = [\"t1\", \"t2\", { value = \"t3\", version = \"2.0\" }] }";
    let daemon = Daemon::start(&endpoint("api", &api.url("/"), auth));
    for id in ["e1", "e2"] {
        daemon.accept(&event("a", id));
        daemon.until_settled("api");
    }
    let asked = api.asked();
    let used: Vec<_> = asked
        .iter()
        .map(|request| {
            (
                request.header("x-auth-token"),
                request.header("x-auth-version"),
                request.header("x-posthaste-attempt"),
            )
        })
        .collect();
    assert_eq!(
        used,
        [
            ("t1", "1", "1"),
            ("t2", "2", "1"),
            ("t3", "2.0", "1"),
            ("t3", "2.0", "1")
        ]
    );
}

/// D5: a secret signs until its time.
#[test]
fn d5_old_secrets_expire() {
    let mut target = Target::new();
    let secret = |byte: u8| {
        use base64::Engine;
        format!(
            "whsec_{}",
            base64::engine::general_purpose::STANDARD.encode([byte; 32])
        )
    };
    let sign = format!(
        "sign = [{{ secrets = [\"{}\", {{ secret = \"{}\", until = \"2999-01-01T00:00:00Z\" }}, {{ secret = \"{}\", until = \"2020-01-01T00:00:00Z\" }}] }}]",
        secret(1),
        secret(2),
        secret(3)
    );
    let daemon = Daemon::start(&endpoint("a", &target.url("/ok"), &sign));
    daemon.accept(&event("a", "e1"));
    let request = target.next();
    assert_eq!(header(&request, "webhook-signature").split(' ').count(), 2);
}

/// D6: a client certificate opens a server that asks for one; without it, or with another's, there is no connection.
#[test]
fn d6_client_certificates() {
    let server = MutualTls::new();
    let tls = |lines: &str| format!("tls = {{ ca = \"ca.pem\"{lines} }}\nretry = {{ max_attempts = 1 }}");
    let text = endpoint(
        "known",
        &server.url(),
        &tls(", client_cert = \"known.crt\", client_key = \"known.key\""),
    ) + &endpoint(
        "by-text",
        &server.url(),
        &tls(", client_cert = \"${file:known.crt}\", client_key = \"${file:known.key}\""),
    ) + &endpoint("nobody", &server.url(), &tls(""))
        + &endpoint(
            "stranger",
            &server.url(),
            &tls(", client_cert = \"stranger.crt\", client_key = \"stranger.key\""),
        );
    let mut daemon = Setup::new(&text).stopped();
    for (name, text) in [
        ("ca.pem", &server.authority),
        ("known.crt", &server.client.0),
        ("known.key", &server.client.1),
        ("stranger.crt", &server.stranger.0),
        ("stranger.key", &server.stranger.1),
    ] {
        fs::write(daemon.path(name), text).unwrap();
        fs::set_permissions(daemon.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    daemon.restart();
    daemon.accept(&event("a", "e1"));
    for name in ["nobody", "stranger"] {
        let dead = daemon.until_dead(name, 1);
        assert_eq!(dead[0]["last"]["class"], "tls", "{dead:?}");
    }
    for name in ["known", "by-text"] {
        daemon.until_settled(name);
        assert_eq!(daemon.row(name)["dead"], 0);
    }
    let key = server.client.1.lines().nth(1).unwrap();
    assert_hidden(&daemon, &[key]);
}
