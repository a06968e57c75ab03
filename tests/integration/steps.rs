//! Steps: requests to other services around a delivery, what their answers are used for, what happens without them, and
//! what is kept of it all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::{Value, json};

use crate::harness::servers::{Asked, Service, nobody};
use crate::harness::{BOUND, Daemon, Setup, endpoint, event, eventually};

/// Retries that come soon.
const SOON: &str = "retry = { delay = \"20ms\", jitter = 0 }";

/// An `[[endpoint.step]]`; `rest` are more lines of it.
fn step(name: &str, url: &str, rest: &str) -> String {
    format!("[[endpoint.step]]\nname = \"{name}\"\nurl = \"{url}\"\n{rest}\n")
}

/// An event about a lead.
fn lead(id: &str) -> String {
    json!({ "type": "lead.new", "id": id, "source": "/web", "data": { "email": "ann@example.com", "ip": "192.0.2.7" } })
        .to_string()
}

/// The logged attempts of an endpoint, oldest first, once there are so many.
fn attempts(daemon: &Daemon, name: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} attempts of {name}"), || {
        let (_, page) = daemon.get(&format!("/v1/attempts?endpoint={name}&limit=100"));
        let mut items = page["items"].as_array().cloned().unwrap_or_default();
        items.reverse();
        (items.len() >= count).then_some(items)
    })
}

/// How each step of an attempt ended.
fn ends(attempt: &Value) -> Vec<String> {
    let steps = attempt["steps"].as_array().unwrap();
    let end = |note: &Value| {
        format!(
            "{} {}",
            note["step"].as_str().unwrap(),
            note["end"].as_str().unwrap()
        )
    };
    steps.iter().map(end).collect()
}

/// Holds requests until so many have come.
#[derive(Clone, Default)]
struct Barrier(Arc<(Mutex<usize>, Condvar)>);

impl Barrier {
    /// Whether all `count` came.
    fn met(&self, count: usize) -> bool {
        let mut came = self.0.0.lock().unwrap();
        *came += 1;
        self.0.1.notify_all();
        let waited = self.0.1.wait_timeout_while(came, BOUND, |came| *came < count);
        !waited.unwrap().1.timed_out()
    }
}

/// C9: what a step stores is seen by later steps, conditions, the address, headers and the body; the order is that of
/// `after`, and every request is called by event, endpoint and step.
#[test]
fn c9_answers_of_steps_are_used_further_on() {
    let service = Service::new(|asked| match &*asked.path {
        "/auth" => (200, json!({ "access_token": "tok-1" })),
        "/geo/192.0.2.7" => (200, json!({ "country": "us" })),
        "/score" => (200, json!({ "result": { "score": 85, "reasons": ["a"] } })),
        _ => (200, json!({ "id": "l-1" })),
    });
    let keys = format!(
        "bind = \"lead\"\nheaders = {{ X-Score = \"{{{{ appended.score.score }}}}\" }}\n\
         body = {{ format = \"json\", fields = {{ email = \"lead.email\", country = \"appended.geo.country|upper\", why = \"appended.score.reasons\" }} }}\n\
         response = {{ success = \"appended.score.score > 80 and response.id\" }}\n\
         [[endpoint.route]]\nwhen = \"appended.score.score > 80\"\nurl = \"{}\"\n{}{}{}{}",
        service.url("/premium/{{ appended.geo.country }}"),
        // Written in another order than they run in.
        step(
            "score",
            &service.url("/score"),
            "after = [\"auth\", \"geo\"]\nwhen = \"appended.geo.country == 'us'\"\nheaders = { Authorization = \"Bearer {{ appended.auth.token }}\" }\n\
             body = { format = \"json\", fields = { email = \"lead.email\" } }\n\
             store = { score = \"response.result.score\", reasons = \"response.result.reasons\" }",
        ),
        step(
            "auth",
            &service.url("/auth"),
            "store = { token = \"response.access_token\" }"
        ),
        step(
            "geo",
            &service.url("/geo/{{ lead.ip }}"),
            "method = \"GET\"\nstore = { country = \"response.country\" }"
        ),
        step(
            "never",
            &service.url("/never"),
            "after = [\"score\"]\nwhen = \"appended.score.score < 10\""
        ),
    );
    let daemon = Daemon::start(&endpoint("crm", &service.url("/usual"), &keys));
    daemon.accept(&lead("lead-1"));
    let got = &service.until("/premium/us", 1)[0];
    assert_eq!(got.header("x-score"), "85");
    assert_eq!(
        got.body,
        r#"{"email":"ann@example.com","country":"US","why":["a"]}"#
    );
    assert_eq!(got.header("webhook-id"), "lead-1");
    assert_eq!(got.header("idempotency-key"), "");
    let score = &service.asked("/score")[0];
    assert_eq!(score.header("authorization"), "bearer tok-1");
    assert_eq!(score.header("idempotency-key"), "lead-1/crm/score");
    assert_eq!(score.header("webhook-id"), "lead-1/crm/score");
    let geo = &service.asked("/geo")[0];
    assert!(geo.head.starts_with("get ") && geo.body.is_empty(), "{geo:?}");
    daemon.until_settled("crm");
    assert_eq!(
        (service.asked("/never").len(), service.asked("/usual").len()),
        (0, 0)
    );
    let attempt = &attempts(&daemon, "crm", 1)[0];
    assert_eq!(
        ends(attempt),
        ["score done", "auth done", "geo done", "never skipped"]
    );
    assert_eq!(attempt["steps"][3]["message"], "not appended.score.score < 10");
    assert!(!attempt.to_string().contains("tok-1"), "{attempt}");
    assert!(!daemon.log().contains("tok-1"));
}

/// C9: steps that wait for nobody are under way together: none is answered before all three have come.
#[test]
fn c9_independent_steps_go_side_by_side() {
    let barrier = Barrier::default();
    let service = Service::new(move |asked| match asked.path.starts_with("/step") {
        true if !barrier.met(3) => (500, json!({})),
        _ => (200, json!({ "at": asked.path })),
    });
    let steps: String = ["email", "phone", "list"]
        .map(|name| {
            step(
                name,
                &service.url(&format!("/step/{name}")),
                "store = { at = \"response.at\" }",
            )
        })
        .concat();
    let keys = format!(
        "timeout = \"60s\"\nbody = {{ format = \"json\", fields = {{ a = \"appended.email.at\", b = \"appended.phone.at\", c = \"appended.list.at\" }} }}\n{steps}"
    );
    let daemon = Daemon::start(&endpoint("crm", &service.url("/lead"), &keys));
    daemon.accept(&lead("lead-1"));
    let got = &service.until("/lead", 1)[0];
    assert_eq!(
        got.body,
        r#"{"a":"/step/email","b":"/step/phone","c":"/step/list"}"#
    );
}

/// C9: a step that fails ends the attempt with its error, which is retried as the endpoint says, with the same keys; what
/// only the step can answer for is not told of the endpoint.
#[test]
fn c9_a_failed_step_is_tried_again_with_its_attempt() {
    let tries = AtomicUsize::new(0);
    let service = Service::new(move |asked| match &*asked.path {
        "/step" if tries.fetch_add(1, Ordering::SeqCst) == 0 => (503, json!({ "why": "busy" })),
        "/gone" => (410, json!({})),
        _ => (200, json!({})),
    });
    let daemon = Daemon::start(
        &(endpoint(
            "crm",
            &service.url("/lead"),
            &format!("{SOON}\n{}", step("check", &service.url("/step"), "")),
        ) + &endpoint(
            "gone",
            &service.url("/never"),
            &step("check", &service.url("/gone"), ""),
        )),
    );
    daemon.accept(&json!({ "type": "t", "id": "e1", "endpoint": "crm" }).to_string());
    service.until("/lead", 1);
    let asked = service.asked("/step");
    let keys: Vec<_> = asked
        .iter()
        .map(|asked| asked.header("idempotency-key"))
        .collect();
    assert_eq!(keys, ["e1/crm/check", "e1/crm/check"]);
    let logged = attempts(&daemon, "crm", 2);
    assert_eq!(
        (&logged[0]["class"], &logged[0]["status"]),
        (&json!("http_5xx"), &json!(503))
    );
    let message = logged[0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("step check: 127.0.0.1:")
            && message.ends_with("answered 503 Service Unavailable"),
        "{message}"
    );
    assert_eq!(
        logged[0]["request_line"],
        format!("POST {}", service.url("/step"))
    );
    assert_eq!(
        (ends(&logged[0]), ends(&logged[1])),
        (vec!["check failed".to_owned()], vec!["check done".to_owned()])
    );

    // 410 is not retried; the endpoint itself has not said that it is gone.
    daemon.accept(&json!({ "type": "t", "id": "e2", "endpoint": "gone" }).to_string());
    let dead = daemon.until_dead("gone", 1);
    assert_eq!(
        (
            &dead[0]["last"]["status"],
            dead[0]["last"]["steps"][0]["end"].as_str()
        ),
        (&json!(410), Some("failed"))
    );
    assert_eq!(daemon.row("gone")["state"], "ready");
    assert!(service.asked("/never").is_empty());
}

/// C9: a step whose service rejects the event rejects the delivery, whatever `on_error` says.
#[test]
fn c9_a_step_can_reject_the_delivery() {
    let service = Service::new(|_| (200, json!({ "listed": true, "why": "known spammer" })));
    let keys = step(
        "blacklist",
        &service.url("/blacklist"),
        "on_error = \"skip\"\nresponse = { rejected = \"response.listed\", error = { message = \"response.why\" } }",
    );
    let daemon = Daemon::start(&endpoint("crm", &service.url("/lead"), &keys));
    daemon.accept(&lead("lead-1"));
    let dead = daemon.until_dead("crm", 1);
    assert_eq!(dead[0]["reason"], "rejected");
    let message = dead[0]["last"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("step blacklist: ") && message.ends_with("known spammer"),
        "{message}"
    );
    assert!(service.asked("/lead").is_empty());
}

/// C9: after a crash between steps and delivery the steps are asked again under the same names.
#[test]
fn c9_a_crash_repeats_the_steps() {
    let open = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&open);
    let service = Service::new(move |asked| {
        if asked.path == "/lead" {
            eventually("the test lets it go", || {
                held.load(Ordering::SeqCst).then_some(())
            });
        }
        (200, json!({}))
    });
    let keys = format!("timeout = \"60s\"\n{}", step("check", &service.url("/step"), ""));
    let mut daemon = Daemon::start(&endpoint("crm", &service.url("/lead"), &keys));
    daemon.accept(&lead("lead-1"));
    service.until("/lead", 1);
    daemon.kill();
    open.store(true, Ordering::SeqCst);
    daemon.restart();
    daemon.until_settled("crm");
    let keys: Vec<_> = service
        .until("/step", 2)
        .iter()
        .map(|asked| asked.header("idempotency-key").to_owned())
        .collect();
    assert_eq!(keys, ["lead-1/crm/check", "lead-1/crm/check"]);
    let ids: Vec<_> = service
        .until("/lead", 2)
        .iter()
        .map(|asked| asked.header("webhook-id").to_owned())
        .collect();
    assert_eq!(ids, ["lead-1", "lead-1"]);
}

/// C9: the endpoint's timeout bounds steps and request together, and a step goes only where any request may go.
#[test]
fn c9_steps_keep_to_the_bounds_of_requests() {
    let service = Service::new(|asked| {
        if asked.path == "/slow" {
            std::thread::sleep(BOUND);
        }
        (200, json!({ "long": "x".repeat(100) }))
    });
    let once = "retry = { max_attempts = 1 }\n";
    let daemon = Daemon::start(
        &(endpoint(
            "slow",
            &service.url("/lead"),
            &format!(
                "timeout = \"300ms\"\n{once}{}",
                step("check", &service.url("/slow"), "timeout = \"20s\"")
            ),
        ) + &endpoint(
            "metadata",
            &service.url("/lead"),
            &format!(
                "{once}{}",
                step("check", "http://169.254.169.254/latest", "allow_http = true")
            ),
        ) + &endpoint(
            "long",
            &service.url("/lead"),
            &format!(
                "{once}{}",
                step(
                    "check",
                    &service.url("/step"),
                    "max_response = \"20B\"\nresponse = { parse = \"json\" }"
                )
            ),
        )),
    );
    daemon.accept(&lead("lead-1"));
    for (name, class) in [
        ("slow", "timeout"),
        ("metadata", "blocked"),
        ("long", "invalid_response"),
    ] {
        let dead = daemon.until_dead(name, 1);
        assert_eq!(dead[0]["last"]["class"], class, "{}", dead[0]);
        assert!(
            dead[0]["last"]["message"]
                .as_str()
                .unwrap()
                .starts_with("step check: "),
            "{}",
            dead[0]
        );
    }
    assert!(service.asked("/lead").is_empty());
}

/// C9: steps of a batch run once for its request, and see all of it.
#[test]
fn c9_steps_of_a_batch_run_once_for_its_request() {
    let service = Service::new(|_| (200, json!({ "token": "t" })));
    let keys = format!(
        "batch = {{ max_events = 3, max_wait = \"30s\" }}\nheaders = {{ X-T = \"{{{{ appended.check.token }}}}\" }}\n{}",
        step(
            "check",
            &service.url("/step"),
            "body = { format = \"json\", fields = { n = \"batch.size\" } }\nstore = { token = \"response.token\" }",
        )
    );
    let daemon = Daemon::start(&endpoint("crm", &service.url("/lead"), &keys));
    daemon.accept_many("t", "e", 3);
    let got = &service.until("/lead", 1)[0];
    assert_eq!(got.header("x-t"), "t");
    let asked = service.asked("/step");
    assert_eq!((asked.len(), &*asked[0].body), (1, r#"{"n":3}"#));
    assert_eq!(
        asked[0].header("idempotency-key"),
        format!("{}/crm/check", got.header("webhook-id"))
    );
}

/// C10: a step after the delivery runs when its answer asks for it; what it stores is captured and passed on.
#[test]
fn c10_a_step_runs_after_the_delivery_when_the_answer_asks_for_it() {
    let service = Service::new(|asked| match &*asked.path {
        "/verify/l-7" => (200, json!({ "verified": true })),
        "/plain" => (200, json!({ "id": "l-8" })),
        _ => (200, json!({ "id": "l-7", "needs_verification": true })),
    });
    let after = step(
        "verify",
        &service.url("/verify/{{ response.id }}"),
        "stage = \"after\"\nwhen = \"response.needs_verification\"\nstore = { ok = \"response.verified\" }",
    );
    let rules = "[endpoint.response]\ncapture = { id = \"response.id\", ok = \"appended.verify.ok if appended.verify else 'not asked'\" }\nemit = { type = \"lead.sold\" }\n";
    let daemon = Daemon::start(
        &(endpoint(
            "asks",
            &service.url("/lead"),
            &format!("events = [\"lead.new\"]\n{rules}{after}"),
        ) + &endpoint(
            "plain",
            &service.url("/plain"),
            &format!("events = [\"lead.new\"]\n{rules}{after}"),
        ) + &endpoint(
            "born",
            &service.url("/born"),
            "events = [\"lead.sold\"]\nbody = { format = \"data\" }",
        )),
    );
    daemon.accept(&lead("lead-1"));
    let mut born: Vec<_> = service
        .until("/born", 2)
        .into_iter()
        .map(|asked| asked.body)
        .collect();
    born.sort();
    assert_eq!(
        born,
        [r#"{"id":"l-7","ok":true}"#, r#"{"id":"l-8","ok":"not asked"}"#]
    );
    let verify = service.asked("/verify");
    assert_eq!(
        (verify.len(), verify[0].header("idempotency-key")),
        (1, "lead-1/asks/verify")
    );
    let asks = &attempts(&daemon, "asks", 1)[0];
    assert_eq!(
        (ends(asks), &asks["captured"]),
        (
            vec!["verify done".to_owned()],
            &json!({ "id": "l-7", "ok": true })
        )
    );
    assert_eq!(ends(&attempts(&daemon, "plain", 1)[0]), ["verify skipped"]);
}

/// C10: when a step after the delivery fails, that is noted; with `on_error = "fail"` it is the attempt's end, and the
/// request is repeated under the same id.
#[test]
fn c10_a_failing_step_after_the_delivery_counts_only_when_it_is_asked_to() {
    let tries = AtomicUsize::new(0);
    let service = Service::new(move |asked| match &*asked.path {
        "/noted" => (500, json!({})),
        "/counts" if tries.fetch_add(1, Ordering::SeqCst) == 0 => (500, json!({})),
        _ => (200, json!({})),
    });
    let daemon = Daemon::start(
        &(endpoint(
            "notes",
            &service.url("/one"),
            &step("verify", &service.url("/noted"), "stage = \"after\""),
        ) + &endpoint(
            "counts",
            &service.url("/two"),
            &format!(
                "{SOON}\n{}",
                step(
                    "verify",
                    &service.url("/counts"),
                    "stage = \"after\"\non_error = \"fail\""
                )
            ),
        )),
    );
    daemon.accept(&lead("lead-1"));
    let notes = &attempts(&daemon, "notes", 1)[0];
    assert_eq!(
        (&notes["outcome"], ends(notes)),
        (&json!("delivered"), vec!["verify left_out".to_owned()])
    );
    let counts = attempts(&daemon, "counts", 2);
    assert_eq!(
        (&counts[0]["outcome"], &counts[1]["outcome"]),
        (&json!("error"), &json!("delivered"))
    );
    let message = counts[0]["message"].as_str().unwrap();
    assert!(message.starts_with("delivered, but step verify: "), "{message}");
    let ids: Vec<_> = service
        .asked("/two")
        .iter()
        .map(|asked| asked.header("webhook-id").to_owned())
        .collect();
    assert_eq!(ids, ["lead-1", "lead-1"]);
    daemon.until_settled("notes");
    assert_eq!(service.asked("/one").len(), 1);
}

/// C11: a second service in the same try; a default with a flag that the request and the attempt carry; skipping with a
/// note; and another try at once.
#[test]
fn c11_what_happens_without_an_answer() {
    let tries = AtomicUsize::new(0);
    let service = Service::new(move |asked| match &*asked.path {
        "/backup" => (200, json!({ "score": 7 })),
        "/again" if tries.fetch_add(1, Ordering::SeqCst) == 0 => (503, json!({})),
        "/again" => (200, json!({ "n": 2 })),
        "/broken" => (500, json!({})),
        _ => (200, json!({})),
    });
    let store = "store = { score = \"response.score\" }\n";
    let keys = format!(
        "body = {{ format = \"json\", fields = {{ second = \"appended.second.score\", default = \"appended.default.score\", left = \"appended.left.score\", again = \"appended.again.n\", flags = \"delivery.flags\" }} }}\n{}{}{}{}",
        step(
            "second",
            &format!("http://{}/", nobody()),
            &format!("{store}fallback_urls = [\"{}\"]", service.url("/backup"))
        ),
        step(
            "default",
            &service.url("/broken"),
            &format!("{store}on_error = \"default\"\ndefault = {{ score = 50 }}\nflag = \"review\"")
        ),
        step(
            "left",
            &service.url("/broken"),
            &format!("{store}on_error = \"skip\"")
        ),
        step(
            "again",
            &service.url("/again"),
            "store = { n = \"response.n\" }\nretry = 1"
        ),
    );
    let daemon = Daemon::start(&endpoint("crm", &service.url("/lead"), &keys));
    daemon.accept(&lead("lead-1"));
    let got = &service.until("/lead", 1)[0];
    assert_eq!(
        got.body,
        r#"{"second":7,"default":50,"again":2,"flags":["review"]}"#
    );
    daemon.until_settled("crm");
    let attempt = &attempts(&daemon, "crm", 1)[0];
    assert_eq!(
        ends(attempt),
        ["second done", "default default", "left left_out", "again done"]
    );
    assert_eq!(attempt["flags"], json!(["review"]));
    let note = attempt["steps"][2]["message"].as_str().unwrap();
    assert!(note.ends_with("answered 500 Internal Server Error"), "{note}");
    assert_eq!(attempt["steps"][2]["status"], 500);
    let shown = daemon.cli(&["events", "show", "lead-1"]).exits(0).out;
    for part in [
        "step default: default 500",
        "flags: review",
        "step left: left_out 500",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
}

/// C11: the last good value stands in as long as it is young enough; without one there is the default, and without that
/// the attempt fails.
#[test]
fn c11_the_last_good_value_stands_in() {
    let is_down = Arc::new(AtomicBool::new(false));
    let down = Arc::clone(&is_down);
    let service = Service::new(move |asked| match asked.path.starts_with("/score") {
        true if down.load(Ordering::SeqCst) => (503, json!({})),
        _ => (200, json!({ "score": 85 })),
    });
    let scored = |name: &str, cache: &str, rest: &str| {
        let keys = format!(
            "retry = {{ max_attempts = 1 }}\nconcurrency = 1\nheaders = {{ X-Score = \"{{{{ appended.score.score }}}}\" }}\n{}",
            step(
                "score",
                &service.url("/score"),
                &format!(
                    "store = {{ score = \"response.score\" }}\non_error = \"cached\"\n{rest}\ncache = {{ key = \"data.k\", {cache} }}"
                )
            )
        );
        endpoint(name, &service.url(&format!("/{name}")), &keys)
    };
    let daemon = Daemon::start(
        &(scored("keeps", "ttl = \"0s\"", "")
            + &scored("forgets", "ttl = \"0s\", max_age = \"1ms\"", "")
            + &scored(
                "defaults",
                "ttl = \"0s\", max_age = \"1ms\"",
                "default = { score = 1 }\nflag = \"review\"",
            )),
    );
    let about = |id: &str, k: &str| json!({ "type": "t", "id": id, "data": { "k": k } }).to_string();
    daemon.accept(&about("e1", "a"));
    for name in ["keeps", "forgets", "defaults"] {
        assert_eq!(service.until(&format!("/{name}"), 1)[0].header("x-score"), "85");
    }
    is_down.store(true, Ordering::SeqCst);
    daemon.accept(&about("e2", "a"));
    assert_eq!(service.until("/keeps", 2)[1].header("x-score"), "85");
    assert_eq!(service.until("/defaults", 2)[1].header("x-score"), "1");
    assert_eq!(daemon.until_dead("forgets", 1)[0]["event_id"], "e2");
    assert_eq!(ends(&attempts(&daemon, "keeps", 2)[1]), ["score last_good"]);
    let defaulted = &attempts(&daemon, "defaults", 2)[1];
    assert_eq!(
        (ends(defaulted), &defaulted["flags"]),
        (vec!["score default".to_owned()], &json!(["review"]))
    );
    // Another key has no good value.
    daemon.accept(&about("e3", "b"));
    assert_eq!(daemon.until_dead("keeps", 1)[0]["event_id"], "e3");
}

/// C12: answers are used again for the same key until they are too old; a reload that leaves the step alone keeps them,
/// one that changes it does not.
#[test]
fn c12_answers_are_used_again() {
    let service = Service::new(|_| (200, json!({ "score": 85 })));
    let config = |ttl: &str, rest: &str| {
        let cache = format!(
            "store = {{ score = \"response.score\" }}\ncache = {{ key = \"data.k\", ttl = \"{ttl}\" }}"
        );
        let score = step("score", &service.url("/score/{{ data.k }}"), &cache);
        let header = "headers = { X-Score = \"{{ appended.score.score }}\" }";
        endpoint(
            "crm",
            &service.url("/lead"),
            &format!("{header}\n{rest}\n{score}"),
        )
    };
    let daemon = Daemon::start(&config("1h", ""));
    let mut sent = 0;
    let mut deliver = |k: &str| {
        sent += 1;
        daemon.accept(&json!({ "type": "t", "id": format!("e{sent}"), "data": { "k": k } }).to_string());
        let got = service.until("/lead", sent);
        assert_eq!(got[sent - 1].header("x-score"), "85");
        service.asked("/score").len()
    };
    assert_eq!(
        (
            deliver("a"),
            deliver("a"),
            deliver("b"),
            deliver("b"),
            deliver("a")
        ),
        (1, 1, 2, 2, 2)
    );
    daemon.write_config(&config("1h", "description = \"another\""));
    daemon.cli(&["reload"]).exits(0);
    assert_eq!(deliver("a"), 2);
    // A test looks at the service itself and leaves nothing behind.
    let sample = daemon.path("event.json");
    std::fs::write(&sample, r#"{"type":"t","data":{"k":"a"}}"#).unwrap();
    let shown = daemon
        .cli(&["endpoints", "test", "crm", "--event", sample.to_str().unwrap()])
        .exits(0);
    assert!(shown.out.contains("step score: done 200"), "{shown:?}");
    assert_eq!(
        (service.asked("/score").len(), service.asked("/lead").len()),
        (3, 7)
    );
    sent += 1;

    daemon.write_config(&config("200ms", ""));
    daemon.cli(&["reload"]).exits(0);
    assert_eq!(service.asked("/score").len(), 3);
    let until_asked = |count: usize, sent: &mut usize| {
        eventually(&format!("request {count} to the service"), || {
            *sent += 1;
            daemon
                .accept(&json!({ "type": "t", "id": format!("e{sent}"), "data": { "k": "a" } }).to_string());
            service.until("/lead", *sent);
            (service.asked("/score").len() == count).then_some(())
        });
    };
    // The changed step asks anew, and once more when that answer is too old.
    until_asked(4, &mut sent);
    until_asked(5, &mut sent);
}

/// C12: deliveries that want the same at the same time ask once, and share the answer.
#[test]
fn c12_one_request_for_all_who_wait_for_it() {
    let open = Arc::new(AtomicBool::new(false));
    let held = Arc::clone(&open);
    let service = Service::new(move |asked: &Asked| {
        if asked.path == "/score" {
            eventually("the test lets it go", || {
                held.load(Ordering::SeqCst).then_some(())
            });
        }
        (200, json!({ "score": 85 }))
    });
    let keys = format!(
        "timeout = \"60s\"\nconcurrency = 4\nheaders = {{ X-Score = \"{{{{ appended.score.score }}}}\" }}\n{}",
        step(
            "score",
            &service.url("/score"),
            "timeout = \"60s\"\nstore = { score = \"response.score\" }\ncache = { key = \"'all'\", ttl = \"1h\" }"
        )
    );
    let daemon = Daemon::start(&endpoint("crm", &service.url("/lead"), &keys));
    daemon.accept_many("t", "e", 4);
    daemon.until_row("crm", "has four under way", |row| row["in_flight"] == 4);
    service.until("/score", 1);
    open.store(true, Ordering::SeqCst);
    let got = service.until("/lead", 4);
    assert!(got.iter().all(|asked| asked.header("x-score") == "85"), "{got:?}");
    assert_eq!(service.asked("/score").len(), 1);
}

/// E3: captured values are kept on the attempt, delivered or rejected, with secrets masked wherever they come from.
#[test]
fn e3_captures_are_kept_on_the_attempt() {
    let service = Service::new(|asked| match &*asked.path {
        "/no" => (200, json!({ "no": true, "id": "l-9" })),
        _ => (
            200,
            json!({ "id": "l-7", "echo": "hunter2-hunter2", "score": 85 }),
        ),
    });
    let keys = "headers = { X-Key = \"hunter2-hunter2\" }\n[endpoint.response]\nrejected = \"response.no\"\n\
                capture = { lead_id = \"response.id\", echo = \"response.echo\", own = \"secrets.k\", score = \"response.score\" }\n";
    let daemon = Setup::new(
        &(endpoint("crm", &service.url("/yes"), keys)
            + &endpoint("picky", &service.url("/no"), keys)
            + "[secrets]\nk = \"${env:OWN}\"\n"),
    )
    .env("OWN", "s3cret-s3cret")
    .start();
    daemon.accept(&event("t", "e1"));
    let logged = &attempts(&daemon, "crm", 1)[0];
    assert_eq!(
        logged["captured"],
        json!({ "lead_id": "l-7", "echo": "[secret]", "own": "***", "score": 85 })
    );
    assert_eq!(logged["steps"], json!([]));
    let dead = daemon.until_dead("picky", 1);
    assert_eq!(dead[0]["last"]["captured"]["lead_id"], "l-9");
    daemon.until_settled("crm");
    let shown = daemon.cli(&["events", "show", "e1"]).exits(0).out;
    assert!(
        shown.contains("captured: {\"") && shown.contains("l-7"),
        "{shown}"
    );
    for text in [
        shown,
        daemon.cli(&["attempts", "--json"]).exits(0).out,
        dead[0].to_string(),
        daemon.log(),
    ] {
        assert!(!text.contains("hunter2") && !text.contains("s3cret"), "{text}");
    }
}

/// H3: `explain` shows the requests of steps with the names of what answers would bring; a test carries steps out; and a
/// saved case may answer for them.
#[test]
fn h3_steps_are_shown_tried_and_answered_by_cases() {
    let service = Service::new(|asked| match &*asked.path {
        "/broken" => (500, json!({ "why": "maintenance" })),
        _ => (200, json!({ "country": "us" })),
    });
    let geo = step(
        "geo",
        &service.url("/geo"),
        "store = { country = \"response.country\" }",
    );
    let list = step(
        "list",
        &service.url("/list/{{ appended.geo.country }}"),
        "after = [\"geo\"]\nmethod = \"GET\"\nheaders = { X-Key = \"hunter2-hunter2\" }\nstore = { listed = \"response.listed\" }\n\
         on_error = \"default\"\ndefault = { listed = false }",
    );
    let verify = step(
        "verify",
        &service.url("/verify"),
        "stage = \"after\"\nwhen = \"response.id\"",
    );
    let case = "[[endpoint.test]]\nname = \"listed\"\nevent = '{\"type\":\"lead.new\",\"data\":{}}'\n\
                steps = { geo = { body = { country = \"fr\" } }, list = { status = 200, body = '{\"listed\":true}' } }\n\
                expect = \"outcome == 'delivered'\"\n";
    let keys = format!(
        "body = {{ format = \"json\", fields = {{ country = \"appended.geo.country\", listed = \"appended.list.listed\" }} }}\n{geo}{list}{verify}{case}"
    );
    let daemon = Daemon::start(
        &(endpoint("crm", &service.url("/lead"), &keys)
            + &endpoint(
                "broken",
                &service.url("/never"),
                &step("check", &service.url("/broken"), ""),
            )),
    );
    let (code, explained) = daemon.post(
        "/v1/explain",
        &json!({ "event": { "type": "lead.new", "data": {} } }),
    );
    assert_eq!(code, 200, "{explained}");
    let row = &explained["endpoints"][0];
    assert_eq!(
        row["request"]["body"],
        r#"{"country":"appended.geo.country","listed":false}"#
    );
    assert_eq!(row["steps"][0]["name"], "geo");
    assert_eq!(
        row["steps"][1]["request"]["line"],
        format!("GET {}", service.url("/list/appended.geo.country"))
    );
    assert!(
        row["steps"][2]["why"]
            .as_str()
            .unwrap()
            .starts_with("it depends on the answer: "),
        "{row}"
    );
    assert!(!explained.to_string().contains("hunter2"));
    let shown = daemon.cli(&["explain", "--type", "lead.new"]).exits(0).out;
    assert!(
        shown.contains("step geo, before the request\n")
            && shown.contains("step verify, after the request: it depends"),
        "{shown}"
    );
    assert_eq!(service.asked("/").len(), 0);

    let (_, tested) = daemon.post("/v1/endpoints/crm/test", &json!({}));
    assert_eq!(
        (&tested["outcome"], ends(&tested)),
        (
            &json!("delivered"),
            vec!["geo done".into(), "list done".into(), "verify skipped".into()]
        )
    );
    assert_eq!(tested["request"]["body"], r#"{"country":"us","listed":null}"#);
    let (_, tested) = daemon.post("/v1/endpoints/broken/test", &json!({}));
    assert_eq!(
        (&tested["outcome"], &tested["status"]),
        (&json!("error"), &json!(500))
    );
    assert!(
        tested["response_body"].as_str().unwrap().contains("maintenance"),
        "{tested}"
    );

    let before = service.asked("/").len();
    let config = daemon.path("config.toml");
    daemon
        .cli(&["test", "crm", "--config", config.to_str().unwrap()])
        .exits(0);
    let asked = service.asked("/");
    assert_eq!(asked.len(), before + 1);
    assert_eq!(asked.last().unwrap().body, r#"{"country":"fr","listed":null}"#);
}

/// C9: endpoints defined over the API have steps like any other, and show them.
#[test]
fn c9_managed_endpoints_may_have_steps() {
    let service = Service::new(|_| (200, json!({ "valid": true })));
    let daemon = Daemon::start("");
    let keys = json!({
        "url": service.url("/lead"),
        "headers": { "X-Valid": "{{ appended.validate.valid }}" },
        "step": [{ "name": "validate", "url": service.url("/validate"), "store": { "valid": "response.valid" } }],
    });
    let (code, answer) = daemon.http("PUT", "/v1/endpoints/crm", Some(keys.to_string()));
    assert!((200..300).contains(&code), "{answer}");
    daemon.accept(&event("t", "e1"));
    assert_eq!(service.until("/lead", 1)[0].header("x-valid"), "true");
    let (_, view) = daemon.get("/v1/endpoints/crm");
    assert_eq!(
        view["config"]["step"][0]["store"]["valid"], "response.valid",
        "{view}"
    );
}
