//! C6: secrets are never shown: not in logs, not by the API, not by any command, whatever happens to a delivery.

use serde_json::json;

use crate::harness::servers::{Scripted, Service, Target, answer, header, nobody};
use crate::harness::{Setup, endpoint, event, eventually, files};
use crate::live::Listener;

/// Each in another place of the configuration. They stand nowhere else, so any trace of them is a leak.
const IN_HEADER: &str = "hdr-S3cr3t-aaaa";
const IN_QUERY: &str = "qry-S3cr3t-bbbb";
const IN_USER: &str = "usr-S3cr3t-cccc";
const IN_FILE: &str = "fil-S3cr3t-dddd";
const IN_ENV: &str = "env-S3cr3t-eeee";
const IN_TRACES: &str = "trc-S3cr3t-ffff";
const SIGNING: &str = "whsec_c2lnbmluZy1rZXktdGhhdC1tdXN0LW5vdC1zaG93";

#[test]
fn c6_secrets_are_never_shown() {
    nothing_is_shown("failed");
}

/// Where the log tells what was said in every attempt, also of those that delivered.
#[test]
fn c6_secrets_are_not_shown_of_what_was_delivered() {
    nothing_is_shown("all");
}

/// Plants secrets everywhere, makes everything happen, and looks for them everywhere.
fn nothing_is_shown(attempts_detail: &str) {
    let mut target = Target::new();
    let redirecting = Scripted::new(|_| answer(302, "location: /elsewhere\r\n"));
    let echo = format!("no: Bearer {IN_HEADER} {IN_FILE} at /?token={IN_QUERY}");
    let echoing = |status: &'static str| {
        let echo = echo.clone();
        Scripted::new(move |_| {
            let length = echo.len();
            format!(
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nx-echo: {IN_ENV}\r\nconnection: close\r\n\r\n{echo}"
            )
        })
    };
    let (echoing, thankful) = (echoing("500 No"), echoing("200 Yes"));
    let with_user = |url: &str| url.replace("http://", &format!("http://user:{IN_USER}@"));
    let more = format!(
        "headers = {{ Authorization = \"Bearer {IN_HEADER}\", X-File = \"${{file:secret}}\", X-Env = \"${{env:PLANTED}}\" }}\n\
         sign = [{{ scheme = \"standard\", secrets = [\"{SIGNING}\"] }}]\n\
         retry = {{ schedule = [\"10ms\", \"1h\"], max_attempts = 3 }}"
    );
    let query = |path: &str| format!("{path}?token={IN_QUERY}");
    let text = endpoint("good", &with_user(&target.url(&query("/ok"))), &more)
        + &endpoint("bad", &with_user(&target.url(&query("/status/500"))), &more)
        + &endpoint("dead", &with_user(&target.url(&query("/status/404"))), &more)
        + &endpoint("moved", &with_user(&redirecting.url()), &more)
        + &endpoint(
            "echo",
            &with_user(&format!("{}?token={IN_QUERY}", echoing.url())),
            &more,
        )
        + &endpoint(
            "thanks",
            &with_user(&format!("{}?token={IN_QUERY}", thankful.url())),
            &more,
        )
        + &endpoint(
            "nobody",
            &with_user(&format!("http://{}/?token={IN_QUERY}", nobody())),
            &more,
        );
    let mut traces = Target::new();
    let tracing = format!(
        "[traces]\nendpoint = \"{}\"\nheaders = {{ x-key = \"{IN_TRACES}\" }}\n",
        traces.url(&query("/v1/traces"))
    );
    let text = tracing + &text;
    let mut daemon = Setup::new(&format!("[log]\nlevel = \"debug\"\n{text}"))
        .store(&format!("attempts_detail = \"{attempts_detail}\""))
        .env("PLANTED", IN_ENV)
        .stopped();
    std::fs::write(daemon.path("secret"), format!("{IN_FILE}\n")).unwrap();
    daemon.restart();
    let mut live = Listener::new(&daemon);
    daemon.accept(&event("a", "e1"));

    // They do reach the endpoint; else hiding them would be easy.
    let got = target.next();
    assert_eq!(header(&got, "authorization"), format!("Bearer {IN_HEADER}"));
    assert_eq!((header(&got, "x-file"), header(&got, "x-env")), (IN_FILE, IN_ENV));
    assert!(got.path.contains(IN_QUERY) && got.headers.contains_key("webhook-signature"));
    daemon.until_settled("thanks");
    daemon.until_dead("dead", 1);
    daemon.until_dead("moved", 1);
    for name in ["bad", "nobody", "echo"] {
        daemon.until_row(name, "deferred", |row| {
            row["deferred"] == 1 && row["in_flight"] == 0
        });
    }

    let mut shown = vec![
        ("/v1/live".to_owned(), live.until("dead", |_| true).to_string()),
        ("/v1/live".to_owned(), live.until("rates", |_| true).to_string()),
    ];
    let exported = traces.next();
    assert_eq!(header(&exported, "x-key"), IN_TRACES);
    let spans = String::from_utf8_lossy(&exported.body).into_owned();
    shown.push(("traces".to_owned(), spans));
    for path in [
        "/v1/status",
        "/v1/config",
        "/v1/endpoints",
        "/v1/endpoints/bad",
        "/v1/dead",
        "/v1/dead?with=event",
        "/v1/events/e1",
        "/v1/attempts",
        "/metrics",
    ] {
        let (code, body) = daemon.http("GET", path, None);
        assert_eq!(code, 200, "{path}");
        shown.push((path.to_owned(), body));
    }
    let config = daemon.path("config.toml");
    let config = config.to_str().unwrap();
    for words in [
        &["status"][..],
        &["status", "--json"],
        &["endpoints", "list"],
        &["endpoints", "show", "bad"],
        &["endpoints", "show", "bad", "--json"],
        &["dead", "list"],
        &["dead", "export"],
        &["events", "show", "e1"],
        &["attempts"],
        &["attempts", "--json"],
        &["explain", "--type", "a"],
        &["explain", "--type", "a", "--json"],
        &["endpoints", "test", "bad"],
        &["endpoints", "test", "echo", "--json"],
        // Changes, which leave a line of the audit in the log.
        &["endpoints", "pause", "bad", "--reason", "a test"],
        &["endpoints", "resume", "bad"],
        &["reload"],
        &["check", "--config", config],
    ] {
        let ran = daemon.cli(words);
        assert!(!ran.out.is_empty(), "{words:?} says something: {ran:?}");
        shown.push((words.join(" "), ran.out + &ran.err));
    }
    for letter in daemon.get("/v1/dead").1["items"].as_array().unwrap() {
        let ran = daemon
            .cli(&["dead", "show", letter["id"].as_str().unwrap()])
            .exits(0);
        shown.push(("dead show".to_owned(), ran.out));
    }
    // Mistakes right beside the secrets, and what is said about them.
    daemon.write_config(
        &text
            .replace("scheme = \"standard\"", "scheme = \"standrad\"")
            .replace("?token=", " ?token="),
    );
    shown.push((
        "a bad reload".to_owned(),
        daemon.post("/v1/reload", &json!({})).1.to_string(),
    ));
    shown.push(("a bad check".to_owned(), {
        let ran = daemon.cli(&["check", "--config", config]).exits(1);
        ran.out + &ran.err
    }));
    daemon.stop();
    assert!(daemon.log().contains("audit"), "changes are written down");
    shown.push(("the log".to_owned(), daemon.log()));
    for words in [&["export"][..], &["status"], &["check"]] {
        let all = [&["store"], words, &["--config", config]].concat();
        let ran = daemon.cli(&all);
        shown.push((all.join(" "), ran.out + &ran.err));
    }
    for file in files(&daemon.path("queue")) {
        shown.push((
            file.display().to_string(),
            String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned(),
        ));
    }
    let bare_key = SIGNING.strip_prefix("whsec_").unwrap();
    let planted = [IN_HEADER, IN_QUERY, IN_USER, IN_FILE, IN_ENV, IN_TRACES, bare_key];
    assert_none_shown(&shown, &planted);
    assert_none_shown(&shown, &["signing-key-that-must-not-show"]);
}

/// Fails with the place that shows one of these secrets.
fn assert_none_shown(shown: &[(String, String)], secrets: &[&str]) {
    for (place, text) in shown {
        for secret in secrets {
            assert!(
                !text.contains(secret),
                "{secret} is shown by {place}:\n{text:.4000}"
            );
        }
    }
}

const IN_TABLE: &str = "tab-S3cr3t-gggg";
const IN_BEARER: &str = "bea-S3cr3t-hhhh";
const IN_PASSWORD: &str = "pwd-S3cr3t-iiii";
/// `ada:` and [`IN_PASSWORD`] in base64, as the header of basic authentication has them.
const IN_BASIC: &str = "YWRhOnB3ZC1TM2NyM3QtaWlpaQ==";
const IN_STEP: &str = "stp-S3cr3t-jjjj";
const IN_CONTROL: &str = "ctl-S3cr3t-kkkk-mmmm";
const IN_API: &str = "api-S3cr3t-llll";

/// Refuses everything, and repeats what it has been told of each path's secrets.
fn parrot() -> Service {
    Service::new(|asked| {
        let told = match &*asked.path {
            "/bearer" => json!([IN_TABLE, IN_BEARER]),
            "/basic" => json!([IN_TABLE, IN_BASIC, IN_PASSWORD]),
            "/step" => json!([IN_STEP]),
            "/own" => json!([IN_API]),
            _ => json!([]),
        };
        (401, json!({ "refused": told }))
    })
}

/// C6: the same of `[secrets]`, of credentials, of a step, of the control token and of an endpoint defined over the API;
/// with payloads in the log, alerts raised, and every command that shows what was tried.
#[test]
fn c6_secrets_of_other_places_are_never_shown() {
    let (mut target, parrot) = (Target::new(), parrot());
    let table = "headers = { X-Table = \"{{ secrets.crm_key }}\" }\nretry = { max_attempts = 1 }\n";
    let step = |url: &str| {
        format!(
            "[[endpoint.step]]\nname = \"ask\"\nurl = \"{url}\"\nheaders = {{ X-Step = \"{IN_STEP}\" }}\n"
        )
    };
    let bearer = format!("[endpoint.auth]\ntype = \"bearer\"\ntoken = \"{IN_BEARER}\"\n");
    let basic =
        format!("[endpoint.auth]\ntype = \"basic\"\nusername = \"ada\"\npassword = \"{IN_PASSWORD}\"\n");
    let text = format!(
        "[log]\nlevel = \"debug\"\npayloads = true\n[secrets]\ncrm_key = \"{IN_TABLE}\"\n[alerts]\nauth_failures = 1\n"
    ) + &endpoint(
        "good",
        &target.url("/good"),
        &(table.to_owned() + &bearer + &step(&target.url("/step"))),
    ) + &endpoint(
        "stepping",
        &target.url("/never"),
        &(table.to_owned() + &step(&parrot.url("/step"))),
    ) + &endpoint("bearer", &parrot.url("/bearer"), &(table.to_owned() + &bearer))
        + &endpoint("basic", &parrot.url("/basic"), &(table.to_owned() + &basic));
    let mut daemon = Setup::new(&text)
        .control(&format!("listen = \"127.0.0.1:0\"\ntoken = \"{IN_CONTROL}\""))
        .start();
    let own =
        json!({ "url": parrot.url("/own"), "headers": { "X-Api": IN_API }, "retry": { "max_attempts": 1 } });
    let mut shown = vec![(
        "PUT".to_owned(),
        daemon.ask("PUT", "/v1/endpoints/own", &[], own.to_string()).body,
    )];
    daemon.accept(&event("a", "e1"));

    // They do reach the endpoint, and the step before it.
    let got = target.take(2);
    let at = |path: &str| got.iter().find(|got| got.path == path).expect(path);
    assert_eq!(header(at("/step"), "x-step"), IN_STEP);
    assert_eq!(header(at("/good"), "x-table"), IN_TABLE);
    assert_eq!(
        header(at("/good"), "authorization"),
        format!("Bearer {IN_BEARER}")
    );
    for name in ["stepping", "bearer", "basic", "own"] {
        daemon.until_dead(name, 1);
    }
    eventually("the alerts are raised", || {
        let alerts = daemon.get("/v1/status").1["alerts"].clone();
        (alerts.as_array().map(Vec::len) >= Some(3)).then_some(())
    });
    for path in [
        "/v1/status",
        "/v1/config",
        "/v1/endpoints",
        "/v1/endpoints/own",
        "/v1/dead?with=event",
        "/v1/events/e1",
        "/v1/attempts",
        "/v1/quarantine",
        "/metrics",
    ] {
        shown.push((path.to_owned(), daemon.ask("GET", path, &[], "").body));
    }
    let config = daemon.path("config.toml").display().to_string();
    let letter = daemon.until_dead("basic", 1).remove(0)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for words in [
        &["dead", "list", "--json"][..],
        &["dead", "show", &letter],
        &["dead", "show", &letter, "--json"],
        &["dead", "export"],
        &["events", "show", "e1", "--json"],
        &["attempts", "--json"],
        &["endpoints", "list", "--json"],
        &["endpoints", "show", "own", "--json"],
        &["endpoints", "test", "bearer"],
        &["endpoints", "test", "basic", "--json"],
        &["endpoints", "disable", "own", "--json"],
        &["explain", "--type", "a"],
        &["explain", "--type", "a", "--json"],
        &["status"],
        &["reload", "--json"],
        &["check", "--json", "--config", &config],
    ] {
        let ran = daemon.cli(words);
        assert!(!ran.out.is_empty(), "{words:?} says something: {ran:?}");
        shown.push((words.join(" "), ran.out + &ran.err));
    }
    daemon.stop();
    let log = daemon.log();
    assert!(log.contains("payload") && log.contains("alert"), "{log}");
    shown.push(("the log".to_owned(), log));
    for words in [
        &["export", "--events"][..],
        &["export", "--dead"],
        &["check", "--json"],
        &["status", "--json"],
    ] {
        let ran = daemon.cli(&[&["store"], words, &["--config", &config]].concat());
        assert!(!ran.out.is_empty(), "{words:?} says something: {ran:?}");
        shown.push((words.join(" "), ran.out + &ran.err));
    }
    let planted = [
        IN_TABLE,
        IN_BEARER,
        IN_PASSWORD,
        IN_BASIC,
        IN_STEP,
        IN_CONTROL,
        IN_API,
    ];
    assert_none_shown(&shown, &planted);
}

/// C6: what events hold and what endpoints answer is in the log only where `[log] payloads` says so.
#[test]
fn c6_payloads_are_logged_on_request_alone() {
    let crm = Service::new(|_| (404, json!({ "said": "no such lead" })));
    for (line, is_shown) in [("", false), ("payloads = true\n", true)] {
        let log = format!("[log]\nlevel = \"debug\"\nformat = \"json\"\n{line}");
        let daemon = Setup::new(&(log + &endpoint("crm", &crm.url("/"), ""))).start();
        daemon.accept(r#"{"type":"a","id":"1","data":{"mail":"ann@example.com"}}"#);
        daemon.until_dead("crm", 1);
        daemon.logs("now a dead letter");
        let log = daemon.log();
        for held in ["ann@example.com", "no such lead"] {
            assert_eq!(log.contains(held), is_shown, "{held} with {line:?}: {log}");
        }
    }
}
