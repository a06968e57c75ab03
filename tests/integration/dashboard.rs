//! H8: the dashboard, as its files are served, and as a person uses it in a real browser.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use serde_json::{Value, json};

use crate::harness::browser::Browser;
use crate::harness::client::{At, ask};
use crate::harness::servers::{Judge, Target};
use crate::harness::{BOUND, Daemon, Setup, endpoint, eventually};
use crate::required;

const TOKEN: &str = "correct-horse-battery";
const FILES: [(&str, &str); 6] = [
    ("/", "text/html; charset=utf-8"),
    ("/dashboard/style.css", "text/css; charset=utf-8"),
    ("/dashboard/main.js", "text/javascript; charset=utf-8"),
    ("/dashboard/api.js", "text/javascript; charset=utf-8"),
    ("/dashboard/show.js", "text/javascript; charset=utf-8"),
    ("/dashboard/lists.js", "text/javascript; charset=utf-8"),
];

/// A daemon with a TCP door, and where that is.
fn over_tcp(endpoints: &str) -> (Daemon, SocketAddr) {
    let daemon = Setup::new(&format!("[log]\nformat = \"json\"\n{endpoints}"))
        .control("listen = \"127.0.0.1:0\"\ntoken = \"${env:TOKEN}\"")
        .env("TOKEN", TOKEN)
        .start();
    let log = daemon.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let address = lines
        .filter_map(|line| line["address"].as_str()?.parse().ok())
        .next()
        .expect("the address is logged");
    (daemon, address)
}

/// H8: the page needs no token, its data does; nothing inline or foreign is run, and nobody frames it.
#[test]
fn h8_the_files_are_served_with_a_strict_policy() {
    let (daemon, address) = over_tcp("");
    for at in [At::Tcp(address), At::Socket(&daemon.control())] {
        for (path, kind) in FILES {
            let answer = ask(at, "GET", path, &[], "");
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (200, kind),
                "{path}"
            );
            let policy = answer.header("content-security-policy");
            for rule in [
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "connect-src 'self'",
                "img-src 'self'",
                "frame-ancestors 'none'",
            ] {
                assert!(
                    policy.split("; ").any(|part| part == rule),
                    "{path}: {rule} in {policy}"
                );
            }
            assert!(!policy.contains("unsafe"), "{path}: {policy}");
            assert_eq!(
                (
                    answer.header("x-content-type-options"),
                    answer.header("referrer-policy")
                ),
                ("nosniff", "no-referrer"),
                "{path}"
            );
        }
    }
    assert_eq!(ask(At::Tcp(address), "GET", "/v1/status", &[], "").status, 401);
    assert_eq!(ask(At::Tcp(address), "POST", "/", &[], "").status, 401);
}

/// Every `/v1/…` that a script names, a `${…}` in it as `{}`.
fn paths(script: &str) -> BTreeSet<String> {
    let named = script.match_indices("/v1/").map(|(at, _)| {
        let rest = &script[at..];
        let end = rest
            .find(['"', '`', '?'])
            .expect("a path ends with its quotes or its query");
        rest[..end]
            .split('/')
            .map(|part| if part.starts_with("${") { "{}" } else { part })
            .collect::<Vec<_>>()
            .join("/")
    });
    named.collect()
}

/// H8: the page asks for nothing that is not there, and makes no markup or code of data.
#[test]
fn h8_the_scripts_ask_for_routes_that_exist() {
    let daemon = Daemon::start("");
    let described = daemon.get("/v1/openapi.json").1;
    let routes: BTreeSet<String> = described["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(|path| {
            path.split('/')
                .map(|part| if part.starts_with('{') { "{}" } else { part })
                .collect::<Vec<_>>()
                .join("/")
        })
        .collect();
    let mut named = BTreeSet::new();
    for (path, _) in FILES {
        let text = daemon.ask("GET", path, &[], "").body;
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "https://",
            " style=",
            " onclick=\"",
        ] {
            assert!(!text.contains(forbidden), "{path}: {forbidden}");
        }
        if path.ends_with(".js") {
            named.extend(paths(&text));
        }
    }
    assert!(named.len() >= 9, "{named:?}");
    let missing: Vec<_> = named.difference(&routes).collect();
    assert!(missing.is_empty(), "{missing:?} in {routes:?}");
}

fn browser() -> Option<Browser> {
    let mend = "apt-get install chromium";
    Browser::start()
        .map_err(|error| required::missing("chromium", mend, error))
        .ok()
}

/// H8: in a real browser: signing in, what is stuck, evidence as text, replay and purge after a question, pause and
/// resume, at the width of a phone and by keyboard alone.
#[test]
fn h8_a_person_mends_what_is_stuck() {
    let Some(mut browser) = browser() else {
        return;
    };
    let judge = Judge::new(|_| 404);
    let mut target = Target::new();
    let endpoints = endpoint("crm-sync", &judge.url(), "events = [\"bad.*\"]")
        + &endpoint("billing", &target.url("/slow/20"), "events = [\"good\"]");
    let (daemon, address) = over_tcp(&endpoints);
    let markup = "<img src=x onerror=document.title='run'>";
    for id in ["1", "2"] {
        let event = json!({ "type": format!("bad.t{id}"), "id": format!("{markup}{id}"), "data": { "note": format!("<script>document.title='run'</script>{id}") } });
        daemon.accept(&event.to_string());
    }
    daemon.accept(&json!({ "type": "good", "id": "3" }).to_string());
    target.take(1);
    let letters = daemon.until_dead("crm-sync", 2);
    browser.size(360, 740);

    signs_in(&mut browser, address);
    browser.shows("#advice", "crm-sync has 2 dead letters");
    browser.shows("#endpoint-table", "billing");
    fits(&mut browser);
    charts_are_drawn(&mut browser);
    pauses_and_resumes(&mut browser, &daemon);
    evidence_is_text(&mut browser, markup, letters[0]["id"].as_str().unwrap());
    searches_dead_letters(&mut browser);
    replays_and_purges(&mut browser, &daemon, &judge);
    searches_attempts(&mut browser, markup);
    assert_eq!(browser.value("document.title"), "posthaste", "no event was run");
    browser.click("nav", "Sign out");
    browser.until("!document.getElementById('login').hidden && sessionStorage.length === 0");
}

/// A wrong token is told so; the right one stays in the tab and not in the address.
fn signs_in(browser: &mut Browser, address: SocketAddr) {
    browser.go(&format!("http://{address}/"));
    browser.until("document.getElementById('login')?.hidden === false");
    for (token, shown) in [("wrong-horse-battery", "login"), (TOKEN, "app")] {
        browser.value(&format!(
            "document.getElementById('token').value = '{token}'; document.getElementById('token').focus()"
        ));
        browser.press("Enter");
        if shown == "login" {
            browser.shows("#login-problem", "not the token");
        } else {
            browser.until("!document.getElementById('app').hidden");
        }
    }
    browser.go(&format!("http://{address}/#token={TOKEN}&view=endpoints"));
    browser.until("document.getElementById('app')?.hidden === false");
    assert_eq!(browser.value("location.href.includes('token')"), false);
}

/// Nothing is wider than the page, nor than the dialog if that is open.
fn fits(browser: &mut Browser) {
    assert_eq!(
        browser.value("innerWidth"),
        browser.value("document.documentElement.scrollWidth")
    );
    let dialog = "(() => { const box = document.getElementById('dialog'), edge = box.getBoundingClientRect(); \
                  return { left: edge.left, right: edge.right, top: edge.top, bottom: edge.bottom, \
                  wide: box.scrollWidth > box.clientWidth }; })()";
    let shown = browser.value(dialog);
    let is_in = |side: &str, max: f64| shown[side].as_f64().is_some_and(|at| (0.0..=max).contains(&at));
    assert!(
        is_in("left", 360.0) && is_in("right", 360.0) && is_in("top", 740.0) && is_in("bottom", 740.0),
        "{shown}"
    );
    assert_eq!(shown["wide"], false, "{shown}");
}

/// The dialog is closed once its answer was given and what it asked for is done: until then the page behind it is out
/// of reach, by keyboard too.
fn dialog_closes(browser: &mut Browser) {
    browser.until("!document.getElementById('dialog').open");
}

/// Rates and response times become lines with points, one more with each reading; the response times are there to see.
fn charts_are_drawn(browser: &mut Browser) {
    for what in ["Deliveries per second of billing", "Response time of billing"] {
        let line = format!("document.querySelector('svg[aria-label^=\"{what}\"] polyline')");
        browser.until(&format!("({line}?.points.length ?? 0) >= 3"));
        let drawn = browser.value(&format!("{line}.getBoundingClientRect().width"));
        assert!(drawn.as_f64() > Some(0.0), "{what}: {drawn}");
        let inside = browser.value(&format!(
            "[...{line}.points].every((point) => point.x >= 0 && point.x <= 120 && point.y >= 0 && point.y <= 24)"
        ));
        assert_eq!(inside, true, "{what}");
    }
    browser.shows("#endpoint-table", " ms");
}

/// By keyboard alone: Tab to the button, Enter, a reason, Tab to the answer, Enter; and the same for the way back.
fn pauses_and_resumes(browser: &mut Browser, daemon: &Daemon) {
    browser.tab_to("at?.getAttribute('data-key') === 'Pause crm-sync'");
    browser.press("Enter");
    browser.until("document.getElementById('dialog').open && document.activeElement.id === 'pause-reason'");
    fits(browser);
    browser.types("their maintenance");
    browser.tab_to("at?.closest('#dialog-actions') && at.textContent === 'Pause'");
    browser.press("Enter");
    let row = daemon.until_state("crm-sync", "paused");
    assert!(
        row["why"].as_str().unwrap().contains("their maintenance"),
        "{row}"
    );
    dialog_closes(browser);
    browser.shows("#advice", "their maintenance");
    browser.until("document.querySelector('[data-key=\"Resume crm-sync\"]') !== null");
    browser.tab_to("at?.getAttribute('data-key') === 'Resume crm-sync'");
    browser.press("Enter");
    daemon.until_state("crm-sync", "ready");
}

fn evidence_is_text(browser: &mut Browser, markup: &str, letter: &str) {
    browser.click("nav", "Dead letters");
    browser.shows("#dead-table", markup);
    fits(browser);
    browser.click("#dead-table", letter);
    browser.shows("#dialog", "POST http://127.0.0.1");
    browser.shows("#dialog", "<script>document.title='run'</script>1");
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    fits(browser);
    browser.press("Escape");
    dialog_closes(browser);
}

/// A field of the search narrows it; without it all are there again.
fn searches_dead_letters(browser: &mut Browser) {
    browser.value("document.querySelector('#dead-filter [name=type]').focus()");
    browser.types("bad.t2");
    browser.press("Enter");
    let rows = "document.querySelectorAll('#dead-table tbody tr').length";
    browser.until(&format!("{rows} === 1"));
    assert!(browser.text("#dead-table").contains("bad.t2"));
    browser.click("nav", "Dead letters");
    browser.until(&format!("{rows} === 2"));
}

/// The log of attempts by outcome, class and time; one of them with what its parts took.
fn searches_attempts(browser: &mut Browser, markup: &str) {
    browser.click("nav", "Attempts");
    browser.shows("#attempt-table", markup);
    browser.shows("#attempt-table", "billing");
    fits(browser);
    for (field, value, shown, hidden) in [
        ("class", "http_4xx", "crm-sync", "billing"),
        ("outcome", "delivered", "billing", "crm-sync"),
        ("outcome", "skipped", "There are none like this.", "crm-sync"),
        ("until", "1h", "There are none like this.", "crm-sync"),
    ] {
        browser.value(&format!(
            "document.getElementById('attempt-filter').reset(); \
             document.getElementById('attempt-filter').elements['{field}'].value = '{value}'"
        ));
        browser.click("#attempt-filter", "Search");
        eventually(&format!("the attempts by {field} {value}"), || {
            let text = browser.text("#attempt-table");
            (text.contains(shown) && !text.contains(hidden)).then_some(())
        });
    }
    browser.click("nav", "Attempts");
    browser.shows("#attempt-table", "billing");
    browser.until(
        "(() => { const row = [...document.querySelectorAll('#attempt-table tbody tr')]\
         .find((row) => row.innerText.includes('billing')); row?.querySelector('button').click(); return !!row; })()",
    );
    for part in ["Connecting", "First byte", "Rest of the answer", " ms", "bytes"] {
        browser.shows("#dialog", part);
    }
    fits(browser);
    browser.press("Escape");
    dialog_closes(browser);
}

fn replays_and_purges(browser: &mut Browser, daemon: &Daemon, judge: &Judge) {
    browser.click("#dead", "Replay all found");
    browser.shows("#dialog", "2 dead letters are delivered again");
    assert_eq!(judge.seen().len(), 2, "nothing is done before the answer");
    browser.click("#dialog", "Yes, replay 2");
    judge.until(4);
    // What was chosen is forgotten when the daemon's answer is in, which may be later than what it did.
    dialog_closes(browser);
    let again = daemon.until_dead("crm-sync", 2);
    browser.click("#dead-filter", "Search");
    for letter in again {
        browser.shows("#dead-table", letter["id"].as_str().unwrap());
    }
    browser.value("document.querySelector('#dead-table input').click()");
    browser.click("#dead", "Purge selected");
    browser.shows("#dialog", "1 dead letters are removed");
    browser.click("#dialog", "Close");
    assert_eq!(daemon.row("crm-sync")["dead"], 2, "closing is no answer");
    browser.click("#dead", "Purge selected");
    browser.click("#dialog", "Yes, purge 1");
    eventually("one is left", || {
        (daemon.row("crm-sync")["dead"] == 1).then_some(())
    });
    browser.shows("#dead-note", "1 purged");
}

/// H8: what happens shows at once: with the poll switched off, by the stream alone.
#[test]
fn h8_what_happens_shows_without_a_poll() {
    let Some(mut browser) = browser() else {
        return;
    };
    let judge = Judge::new(|_| 404);
    let (daemon, address) = over_tcp(&endpoint("crm-sync", &judge.url(), ""));
    browser.go(&format!("http://{address}/#token={TOKEN}"));
    browser.until("document.getElementById('app')?.hidden === false");
    browser.value("window.setTimeout = () => { window.polled = true; return 0; }");
    browser.until("window.polled === true");
    daemon.post(
        "/v1/endpoints/crm-sync/pause",
        &json!({ "reason": "their maintenance" }),
    );
    browser.shows("#endpoint-table", "paused");
    daemon.post("/v1/endpoints/crm-sync/resume", &json!({}));
    daemon.accept(&json!({ "type": "bad", "id": "1" }).to_string());
    browser.shows("#advice", "crm-sync has 1 dead letters");
}

/// H8: `posthaste top` on a terminal: what is stuck is seen, and a key pauses it after a question.
#[test]
fn h8_top_shows_and_pauses() {
    let target = Target::new();
    let daemon = Daemon::start(&endpoint("crm-sync", &target.url("/"), ""));
    // util-linux's script gives a program a terminal of its own.
    let command = format!(
        "stty cols 120 rows 20; exec {} top --socket {}",
        env!("CARGO_BIN_EXE_posthaste"),
        daemon.control().display()
    );
    let started = Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut top = match started {
        Ok(top) => top,
        Err(error) => return required::missing("script", "apt-get install bsdutils", error),
    };
    let mut keys = top.stdin.take().unwrap();
    let mut screen = String::new();
    let mut bytes = top.stdout.take().unwrap();
    let (told, drawn) = channel();
    std::thread::spawn(move || {
        let mut some = [0; 4096];
        while let Ok(count @ 1..) = bytes.read(&mut some) {
            if told
                .send(String::from_utf8_lossy(&some[..count]).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    let mut until = |text: &str| {
        while !screen.contains(text) {
            match drawn.recv_timeout(BOUND) {
                Ok(more) => screen.push_str(&more),
                Err(error) => panic!("{text:?} is not drawn ({error}): {screen:?}"),
            }
        }
    };
    until("crm-sync");
    until("up/down");
    keys.write_all(b"p").unwrap();
    until("pause crm-sync?");
    assert_eq!(daemon.row("crm-sync")["state"], "ready", "it is only asked");
    keys.write_all(b"y").unwrap();
    until("paused");
    daemon.until_state("crm-sync", "paused");
    keys.write_all(b"r").unwrap();
    daemon.until_state("crm-sync", "ready");
    keys.write_all(b"q").unwrap();
    assert!(top.wait().unwrap().success());
}

/// H8: without a terminal it says what to use instead.
#[test]
fn h8_top_needs_a_terminal() {
    let daemon = Daemon::start("");
    let ran = daemon.cli(&["top"]).exits(2);
    assert!(ran.err.contains("posthaste status --watch"), "{ran:?}");
}
