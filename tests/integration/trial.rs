//! Trying things out: explaining an event, testing an endpoint, saved cases, and endpoints that use modules.

use serde_json::{Value, json};

use crate::harness::servers::{Scripted, Target, header};
use crate::harness::{Daemon, Setup, endpoint, event};

/// H3: for each endpoint, whether it would get the event, why or why not, and the request, secrets masked; nothing is sent.
#[test]
fn h3_explain_says_who_why_and_how() {
    let target = Target::new();
    let url = target.url("/ok");
    let text = endpoint(
        "takes",
        &format!("{url}?key=hunter2-hunter2"),
        "query = { mail = \"{{ data.mail }}\", token = \"hunter2-hunter2\" }\nheaders = { X-Key = \"hunter2-hunter2\" }\nbody = { format = \"json\", fields = { mail = \"data.mail\", key = \"secrets.k\" } }",
    ) + &endpoint("other-type", &url, "events = [\"lead.*\"]")
        + &endpoint("other-tenant", &url, "tenant = \"acme\"")
        + &endpoint(
            "filters",
            &url,
            "filter = { data = { score = { \"$gte\" = 50 } } }",
        )
        + &endpoint(
            "skips",
            &url,
            "when = \"data.score > 50\"\nskip_reason = \"only {{ data.score }}\"",
        )
        + &endpoint(
            "broken",
            &url,
            "body = { format = \"text\", template = \"{{ data.none }}\" }",
        )
        + &endpoint("off", &url, "enabled = false")
        + "[secrets]\nk = \"hunter2-hunter2\"\n";
    let daemon = Daemon::start(&text);
    daemon.cli(&["endpoints", "pause", "takes"]).exits(0);
    let sample = json!({ "type": "contact.created", "data": { "mail": "a@example.com", "score": 7 } });
    let (code, explained) = daemon.post("/v1/explain", &json!({ "event": sample }));
    assert_eq!(code, 200, "{explained}");
    let rows = explained["endpoints"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| row["endpoint"] == name).unwrap();
    for (name, gets, why) in [
        ("takes", true, "it takes events of type contact.created"),
        (
            "other-type",
            false,
            "contact.created is none of the types it takes: lead.*",
        ),
        (
            "other-tenant",
            false,
            "it takes events of tenant acme, this one is of none",
        ),
        ("filters", false, "its filter does not let the event pass"),
        ("skips", false, "skipped by `when`: only 7"),
        ("broken", true, "it takes events of type contact.created"),
        ("off", true, "it is disabled, so the delivery would be parked"),
    ] {
        let row = row(name);
        assert_eq!(row["gets"], gets, "{row}");
        assert!(row["why"].as_str().unwrap().contains(why), "{row}");
    }
    assert_eq!(
        (&row("takes")["state"], &row("off")["state"]),
        (&json!("paused"), &json!("disabled"))
    );
    let request = &row("takes")["request"];
    assert_eq!(
        request["line"],
        format!("POST {url}?key=***&mail=a%40example.com&token=***")
    );
    assert_eq!(request["body"], r#"{"mail":"a@example.com","key":"***"}"#);
    assert!(
        request["headers"]
            .as_array()
            .unwrap()
            .contains(&json!(["x-key", "[secret]"])),
        "{request}"
    );
    assert!(
        row("broken")["error"].as_str().unwrap().contains("undefined"),
        "{}",
        row("broken")
    );
    assert!(!explained.to_string().contains("hunter2"), "{explained}");

    let shown = daemon
        .cli_with(&["explain", "-"], &sample.to_string())
        .exits(0)
        .out;
    for part in [
        "takes gets it: it takes",
        "skips does not get it: skipped",
        "POST http://",
        "it is paused now",
    ] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    let lines = daemon
        .cli(&["explain", "--json", "--type", "lead.x"])
        .exits(0)
        .lines();
    assert_eq!((lines.len(), &lines[1]["gets"]), (7, &json!(true)));
    assert_eq!(
        daemon.post("/v1/explain", &json!({ "event": { "data": 1 } })).0,
        400
    );
    assert_eq!(target.requests(), 0);
}

/// H3: a test sends one marked event and shows both sides; it is neither stored nor counted, paused or not.
#[test]
fn h3_a_test_sends_one_marked_event_and_leaves_no_trace() {
    let mut target = Target::new();
    let daemon = Daemon::start(
        &(endpoint(
            "crm",
            &target.url("/ok"),
            "headers = { X-Key = \"hunter2-hunter2\" }",
        ) + &endpoint("bad", &target.url("/status/500"), "")),
    );
    daemon.cli(&["endpoints", "pause", "crm"]).exits(0);
    let (code, view) = daemon.post("/v1/endpoints/crm/test", &json!({}));
    assert_eq!(
        (code, &view["outcome"], &view["status"]),
        (200, &json!("delivered"), &json!(200)),
        "{view}"
    );
    let received = target.next();
    let body: Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!(
        (&body["type"], &body["is_ping"]),
        (&json!("posthaste.ping"), &json!(true))
    );
    assert_eq!(header(&received, "x-key"), "hunter2-hunter2");
    assert!(
        view["request"]["body"]
            .as_str()
            .unwrap()
            .contains("\"is_ping\":true"),
        "{view}"
    );
    assert!(!view.to_string().contains("hunter2"), "{view}");

    let shown = daemon
        .cli_with(&["endpoints", "test", "bad", "--event", "-"], &event("a.b", "e1"))
        .exits(1);
    assert!(
        shown.out.contains("500 after") && shown.out.contains("bad: "),
        "{shown:?}"
    );
    let sent: Value = serde_json::from_slice(&target.next().body).unwrap();
    assert_eq!((&sent["id"], &sent["is_ping"]), (&json!("e1"), &json!(true)));
    for name in ["crm", "bad"] {
        let row = daemon.row(name);
        assert_eq!((&row["pending"], &row["dead"]), (&json!(0), &json!(0)), "{row}");
        assert_eq!(row["attempts"]["delivered"], 0, "{row}");
        assert_eq!(row["last_status"], Value::Null, "{row}");
    }
    let (_, attempts) = daemon.get("/v1/attempts");
    assert_eq!(attempts["items"], json!([]));
    assert_eq!(daemon.post("/v1/endpoints/none/test", &json!({})).0, 404);
    assert_eq!(
        daemon.post("/v1/endpoints/crm/test", &json!({ "event": [] })).0,
        400
    );
}

/// H3, A1: a body that is not the event shows a ping where the endpoint says so; GET has a body like any method, or none.
#[test]
fn h3_pings_are_marked_where_the_endpoint_says_so() {
    let mut target = Target::new();
    let mark = "method = \"GET\"\nheaders = { X-Test = \"{{ event.is_ping or false }}\" }\n";
    let text = endpoint(
        "data",
        &target.url("/ok"),
        &format!("{mark}body = {{ format = \"data\" }}"),
    ) + &endpoint(
        "none",
        &target.url("/ok"),
        &format!("{mark}body = {{ format = \"none\" }}"),
    );
    let daemon = Daemon::start(&text);
    for (name, body) in [("data", "{}"), ("none", "")] {
        daemon.cli(&["endpoints", "test", name]).exits(0);
        let received = target.next();
        assert_eq!(
            (
                received.method.as_str(),
                header(&received, "x-test"),
                &*received.body
            ),
            ("GET", "true", body.as_bytes()),
            "{name}"
        );
    }
    daemon.accept(r#"{"type":"a.b","endpoint":"none"}"#);
    assert_eq!(header(&target.next(), "x-test"), "false");
}

/// H5: saved cases run without a daemon, by real requests; one that fails is told with its reason and by the exit code.
#[test]
fn h5_saved_cases_are_run_and_judged() {
    let gate = Scripted::new(|_| {
        "HTTP/1.1 201 Created\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"id\":\"c7\"}"
            .to_owned()
    });
    let case = |name: &str, expect: &str| {
        format!(
            "[[endpoint.test]]\nname = \"{name}\"\nevent = '{{\"type\":\"a.b\",\"data\":{{\"n\":1}}}}'\nexpect = \"{expect}\"\n"
        )
    };
    let text = endpoint("crm", &gate.url(), "")
        + &case(
            "created",
            "outcome == 'delivered' and response.status_code == 201 and response.id == 'c7'",
        )
        + &case("wrong", "response.id == data.n");
    let text = text
        + &endpoint("other", &gate.url(), "enabled = false")
        + &case("fine", "response.headers['content-type'] == 'application/json'");
    let daemon = Setup::new(&text).stopped();
    let config = daemon.path("config.toml");
    let config = config.to_str().unwrap();
    let ran = daemon.cli(&["test", "--config", config]).exits(1);
    for part in ["created", "FAILED", "not response.id == data.n; delivered", "201"] {
        assert!(ran.out.contains(part), "{part:?} is not in\n{}", ran.out);
    }
    assert!(ran.err.contains("1 of 3 cases failed"), "{ran:?}");
    let lines = daemon
        .cli(&["test", "other", "--json", "--config", config])
        .exits(0)
        .lines();
    assert_eq!((lines.len(), &lines[0]["passed"]), (1, &json!(true)));
    assert!(
        lines[0]["note"].as_str().unwrap().contains("disabled"),
        "{lines:?}"
    );
    daemon.cli(&["test", "nobody", "--config", config]).exits(1);
}

/// H5, E3: a case sees the answer as the endpoint's own rules do, and how the try ended; one that `when` leaves out is skipped;
/// `check` makes its request without sending it.
#[test]
fn h5_cases_see_what_rules_see() {
    let server = Scripted::new(|_| {
        let body = "<r><id>c7</id></r>";
        format!(
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    let case = |name: &str, data: &str, expect: &str| {
        format!(
            "[[endpoint.test]]\nname = \"{name}\"\nevent = '{{\"type\":\"a.b\",\"data\":{data}}}'\nexpect = \"{expect}\"\n"
        )
    };
    let keys = "when = \"(data.n or 0) != 2\"\nbind = \"lead\"\nbody = { format = \"json\", template = '{\"n\": {{ data.n + 1 }}}' }";
    let answered = "outcome == 'error' and error_class == 'http_4xx' and response.xpath('//id') == lead.id and delivery.attempt == 1";
    let text = endpoint("crm", &server.url(), keys)
        + &case("xml", r#"{"n":1,"id":"c7"}"#, answered)
        + &case("left-out", r#"{"n":2}"#, "outcome == 'skipped'");
    let daemon = Setup::new(&text).stopped();
    let config = daemon.path("config.toml").display().to_string();
    daemon.cli(&["check", "--config", &config]).exits(0);
    assert_eq!(server.requests(), 0);
    let ran = daemon
        .cli(&["test", "--json", "--config", &config])
        .exits(0)
        .lines();
    assert_eq!(ran.len(), 2, "{ran:?}");
    assert_eq!(server.requests(), 1);
    daemon.write_config(&(text + &case("no-number", "{}", "outcome == 'delivered'")));
    let ran = daemon.cli(&["check", "--config", &config]).exits(1);
    assert!(
        ran.err
            .contains("endpoint.crm.test \"no-number\": body.template: "),
        "{ran:?}"
    );
    assert_eq!(server.requests(), 1);
}

/// H3, H5, B2: what keeps an event from going out is told by cases, `check` and a test of the endpoint as the daemon acts on it.
#[test]
fn h3_h5_what_keeps_an_event_back_is_told_everywhere() {
    let target = Target::new();
    let url = target.url("/ok");
    let case = |data: &str, expect: &str| {
        format!(
            "[[endpoint.test]]\nname = \"a\"\nevent = '{{\"type\":\"a.b\",\"data\":{data}}}'\nexpect = \"{expect}\"\n"
        )
    };
    let keys = "when = \"data.score >= 50\"";
    let unclear = "`when` can't be worked out: ";
    for (keys, data, outcome, why) in [
        (keys, "{}", "error' and error_class == 'render", unclear),
        (
            keys,
            r#"{"score":7}"#,
            "skipped",
            "skipped by `when`: not data.score >= 50",
        ),
        (
            "events = [\"c.*\"]",
            "{}",
            "skipped",
            "a.b is none of the types it takes: c.*",
        ),
        (
            "tenant = \"acme\"",
            "{}",
            "skipped",
            "it takes events of tenant acme",
        ),
        (
            "filter = { data = { n = 1 } }",
            "{}",
            "skipped",
            "its filter does not let the event pass",
        ),
    ] {
        let right = endpoint("crm", &url, keys) + &case(data, &format!("outcome == '{outcome}'"));
        let daemon = Setup::new(&right).stopped();
        let config = daemon.path("config.toml").display().to_string();
        for verb in ["check", "test"] {
            daemon.cli(&[verb, "--config", &config]).exits(0);
        }
        daemon.write_config(&(endpoint("crm", &url, keys) + &case(data, "outcome == 'delivered'")));
        let checked = daemon.cli(&["check", "--config", &config]).exits(1);
        let ran = daemon.cli(&["test", "--config", &config]).exits(1);
        assert!(
            checked.err.contains("endpoint.crm.test \"a\": ") && checked.err.contains(why),
            "{checked:?}"
        );
        assert!(ran.out.contains("FAILED") && ran.out.contains(why), "{ran:?}");
    }
    let daemon = Daemon::start(&endpoint("crm", &url, keys));
    daemon.accept(r#"{"type":"a.b","id":"e1","data":{}}"#);
    let letter = daemon.until_dead("crm", 1).remove(0);
    assert_eq!(letter["reason"], "render", "{letter}");
    for (event, outcome, why) in [
        (r#"{"type":"a.b","data":{}}"#, "error", unclear),
        (
            r#"{"type":"a.b","data":{"score":7}}"#,
            "skipped",
            "skipped by `when`",
        ),
    ] {
        let shown = daemon
            .cli_with(&["endpoints", "test", "crm", "--event", "-"], event)
            .exits(1);
        assert!(
            shown.out.contains(&format!("crm: {outcome}")) && shown.err.contains(why),
            "{shown:?}"
        );
        let explained = daemon.cli_with(&["explain", "-"], event).exits(0);
        assert!(explained.out.contains(why), "{explained:?}");
    }
    assert_eq!(target.requests(), 0);
    daemon.cli(&["endpoints", "test", "crm"]).exits(0);
    assert_eq!(target.requests(), 1, "a ping goes out");
}

/// H9: an endpoint that uses a module delivers as the module says.
#[test]
fn h9_an_endpoint_delivers_by_its_module() {
    let mut target = Target::new();
    let text = format!(
        "[[endpoint]]\nname = \"chat\"\nuse = \"slack/message\"\n[endpoint.with]\nurl = \"{}\"\ntext = \"*{{{{ data.name }}}}*\"\n",
        target.url("/ok")
    );
    let daemon = Daemon::start(&text);
    daemon.accept(r#"{"type":"a.b","id":"e1","data":{"name":"O\"Hara"}}"#);
    let received = target.next();
    assert_eq!(String::from_utf8_lossy(&received.body), r#"{"text":"*O\"Hara*"}"#);
    daemon.until_settled("chat");
}

/// C4, H3: every template, expression and step is rendered for the operator's own events, and each that fails is shown with
/// file, line, key and text; what an event does not reach is left alone.
#[test]
fn c4_h3_check_renders_every_text_for_sample_events() {
    let url = "https://a.example/";
    let text = "[defaults.headers]\nX-Name = \"{{ data.nobody }}\"\n".to_owned()
        + &endpoint(
            "several",
            url,
            concat!(
                "events = [\"lead.*\"]\nwhen = \"not data.test\"\n",
                "headers = { X-Name = \"{{ data.name }}\", X-Score = \"{{ data.score }}\" }\n",
                "query = { mail = \"{{ data.mail }}\" }\n",
                "body = { format = \"json\", fields = { age = \"data.born|years\" } }\n",
                "[[endpoint.route]]\nwhen = \"data.vip\"\nurl = \"https://vip.example/{{ data.vip_id }}\"\n",
                "[[endpoint.step]]\nname = \"look\"\nurl = \"https://look.example/{{ data.phone }}\"\nstore = { ok = \"response.ok\" }\n",
                "[[endpoint.step]]\nname = \"rare\"\nwhen = \"data.rare\"\nurl = \"https://rare.example/{{ data.rare_id }}\"\n",
            ),
        )
        + &endpoint(
            "others",
            url,
            "events = [\"order.*\"]\nheaders = { X-Name = \"{{ data.nothing }}\" }",
        );
    let daemon = Setup::new(&text).stopped();
    let config = daemon.path("config.toml").display().to_string();
    let check = |events: &str| daemon.cli_with(&["check", "--config", &config, "--event", "-"], events);
    let lead = |data: Value| json!({ "type": "lead.created", "data": data }).to_string();
    let whole = json!({ "name": "Ann", "score": 1, "mail": "a@x", "born": "2000-01-01", "phone": "1" });
    let ran = check(&lead(whole.clone()));
    assert!(ran.out.starts_with("ok: 2 endpoints"), "{ran:?}");
    let ran = check(&format!(
        "{}\n{}",
        lead(json!({ "test": true })),
        lead(json!({ "born": "x" }))
    ));
    for expected in [
        "endpoint.several.headers.X-Name: for event 2 (lead.created): at character 4, in `{{ data.name }}`: `data.name` is undefined",
        "endpoint.several.headers.X-Score: for event 2 (lead.created): at character 4, in `{{ data.score }}`: `data.score` is undefined",
        "endpoint.several.query.mail: ",
        "endpoint.several.body.fields.age: ",
        "endpoint.several.step[1].url: for event 2 (lead.created): at character 25, in `{{ data.phone }}`: `data.phone` is undefined",
    ] {
        assert!(ran.err.contains(expected), "{expected}: {ran:?}");
    }
    assert!(
        ran.err.contains("config.toml:") && ran.err.contains("^"),
        "{ran:?}"
    );
    assert_eq!(ran.err.matches("error: ").count(), 5, "{ran:?}");
    assert!(ran.out.contains("not usable: 5 problems"), "{ran:?}");
    assert_eq!(ran.code, 1);
    let mut vip = whole;
    vip["vip"] = true.into();
    let ran = check(&format!("[{}]", lead(vip)));
    assert!(ran.err.contains("endpoint.several.route[1].url: "), "{ran:?}");
    assert_eq!(ran.err.matches("error: ").count(), 1, "{ran:?}");
    let ran = check("{\"type\":\"nobody.asked\"}");
    assert!(
        ran.code == 0
            && ran
                .err
                .contains("event 1 (nobody.asked) is wanted by no endpoint"),
        "{ran:?}"
    );
    for (input, why) in [
        ("", "there is no event"),
        ("{", "not JSON"),
        ("{\"a\":1}", "event 1: "),
    ] {
        let ran = check(input);
        assert!(ran.code == 1 && ran.err.contains(why), "{input}: {ran:?}");
    }
}

/// C4: what no event can mend is found without one.
#[test]
fn c4_check_finds_what_fails_for_every_event() {
    let text = "[vars]\nday = \"today\"\n".to_owned()
        + &endpoint(
            "crm",
            "https://a.example/",
            "headers = { X-Day = \"{{ vars.day|date('%Y') }}\", X-Name = \"{{ data.name|date('%Y') }}\" }",
        );
    let daemon = Setup::new(&text).stopped();
    let config = daemon.path("config.toml").display().to_string();
    let ran = daemon.cli(&["check", "--config", &config]);
    assert!(
        ran.err
            .contains("endpoint.crm.headers.X-Day: whatever the event: "),
        "{ran:?}"
    );
    assert!(ran.code == 1 && !ran.err.contains("headers.X-Name"), "{ran:?}");
}
