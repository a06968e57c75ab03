//! The examples in examples/seeds, as users read them: each is run through the built daemon against a receiver, which
//! sees exactly the request that is promised, and whose answer is read as promised.
//!
//! An example is changed in one thing before it is run: `https://host/path` becomes a path of the receiver,
//! `http://127.0.0.1:PORT/host/path`. Its references to the environment are filled by [`variable`].

mod answers;
mod bodies;
mod retries;
mod routes;
mod steps;
mod watched;
mod ways;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::desks::{Asked, Desk};
use crate::harness::{Daemon, Setup, endpoint, eventually, now};

/// A secret as Standard Webhooks has them.
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The type of what the examples make out of answers; a witness wants it.
const BORN: &str = "lead.answered";

/// One `[[endpoint]]` of an example, and what is promised of it.
struct Case {
    endpoint: &'static str,
    run: Run,
}

enum Run {
    /// Each event is answered so, and has this request and this end.
    Sends(Vec<Exchange>),
    /// What needs more to be seen.
    By(fn(&Stage, &'static str)),
}

/// An event, its request, the answer to it, and its end.
struct Exchange {
    /// The event's `data`.
    data: &'static str,
    status: u16,
    content_type: &'static str,
    body: &'static str,
    /// `METHOD /host/path`, headers that have to be there, an empty line, and the whole body; nothing: the event's data, wherever it goes. `{id}` is
    /// the event's id, `{time}` a time of these days.
    request: &'static str,
    ends: Ends,
}

/// How the first try at an event ends.
enum Ends {
    Delivered,
    /// In an error of this class, with this in the message.
    Error(&'static str, &'static str),
    /// By the other side's no, with this in the message.
    Rejected(&'static str),
    /// Without a request, for this reason.
    Skipped(&'static str),
    /// Delivered, and this is the data of the event born from it.
    Born(&'static str),
}

const LEAD: &str =
    r#"{"email":"test@example.com","phone":"5551234567","first_name":"John","last_name":"Doe"}"#;

/// A lead is sent by this request, and taken.
fn sends(endpoint: &'static str, request: &'static str) -> Case {
    sends_of(endpoint, LEAD, request)
}

/// The same of an event with other data.
fn sends_of(endpoint: &'static str, data: &'static str, request: &'static str) -> Case {
    let exchange = Exchange {
        data,
        status: 200,
        content_type: "text/plain",
        body: "",
        request,
        ends: Ends::Delivered,
    };
    Case {
        endpoint,
        run: Run::Sends(vec![exchange]),
    }
}

/// A lead is answered so, and this comes of it.
fn answered(status: u16, content_type: &'static str, body: &'static str, ends: Ends) -> Exchange {
    Exchange {
        data: LEAD,
        status,
        content_type,
        body,
        request: "",
        ends,
    }
}

fn by(endpoint: &'static str, run: fn(&Stage, &'static str)) -> Case {
    Case {
        endpoint,
        run: Run::By(run),
    }
}

/// Every file, and what is promised of each of its endpoints.
fn gallery() -> BTreeMap<&'static str, Vec<Case>> {
    BTreeMap::from([
        ("answers.toml", answers::cases()),
        ("batches.toml", routes::batches()),
        ("connections.toml", ways::connections()),
        ("credentials.toml", ways::credentials()),
        ("json-bodies.toml", bodies::json()),
        ("modules.toml", webhooks::modules()),
        ("other-formats.toml", bodies::others()),
        ("retries.toml", retries::cases()),
        ("routing.toml", routes::routes()),
        ("signatures.toml", ways::signatures()),
        ("steps.toml", steps::cases()),
        ("watched.toml", watched::cases()),
        ("webhooks.toml", webhooks::cases()),
    ])
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/seeds")
}

fn text_of(file: &str) -> String {
    fs::read_to_string(folder().join(file)).expect("the example is there")
}

/// The variables of the environment that `text` refers to, each with its value.
fn variables(text: &str) -> BTreeMap<&str, String> {
    let names = text
        .split("${env:")
        .skip(1)
        .filter_map(|rest| rest.split('}').next());
    names.map(|name| (name, variable(name))).collect()
}

/// The value of a variable: its name in small letters, or what its name says that it has to be.
fn variable(name: &str) -> String {
    match name {
        "OLD_WHSEC" => "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned(),
        _ if name.ends_with("WHSEC") => WHSEC.to_owned(),
        _ => name.to_lowercase(),
    }
}

/// In place of an id: the replies to all requests that have none of their own.
const EVERYBODY: &str = "";

/// A status, header lines and a body.
type Reply = (u16, String, String);

/// Waits as the first header line of a reply asks for: so many milliseconds, or until so many requests wait together.
fn held_back(reply: &Reply, together: &AtomicUsize) {
    let asked = |name: &str| {
        let value = reply.1.lines().next()?.strip_prefix(name)?;
        value.trim().parse::<usize>().ok()
    };
    if let Some(ms) = asked("x-held-back-ms:") {
        thread::sleep(Duration::from_millis(ms as u64));
    }
    if let Some(count) = asked("x-together:") {
        together.fetch_add(1, Ordering::SeqCst);
        eventually("all are asked", || {
            (together.load(Ordering::SeqCst) >= count).then_some(())
        });
    }
}

/// A running daemon with the endpoints of one file, and the receiver that all of them lead to.
struct Stage {
    daemon: Daemon,
    desk: Desk,
    /// By the ids of the requests; those of nobody are for all that have none.
    replies: Arc<Mutex<HashMap<String, Vec<Reply>>>>,
}

impl Stage {
    fn new(file: &str) -> Self {
        let replies: Arc<Mutex<HashMap<String, Vec<Reply>>>> = Arc::default();
        let known = Arc::clone(&replies);
        let together = AtomicUsize::new(0);
        let desk = Desk::saying(move |asked| {
            if asked.line.contains("token ") {
                return (
                    200,
                    String::new(),
                    r#"{"access_token":"t1","expires_in":3600}"#.to_owned(),
                );
            }
            let mut known = known.lock().expect("no test panics with it");
            let id = Some(asked.header("webhook-id")).filter(|id| known.contains_key(*id));
            let reply = match known.get_mut(id.unwrap_or(EVERYBODY)) {
                // The last one is for all further requests.
                Some(replies) if replies.len() > 1 => replies.remove(0),
                Some(replies) => replies[0].clone(),
                None => (200, String::new(), String::new()),
            };
            drop(known);
            held_back(&reply, &together);
            reply
        });
        let text = text_of(file);
        let keys = format!("events = [\"{BORN}\"]\nbody = {{ format = \"event\" }}");
        let witness = endpoint("witness", &desk.url("/witness"), &keys);
        let setup = Setup::new(&(text.replace("https://", &desk.url("/")) + &witness));
        let fill = |setup: Setup, (name, value): (&str, String)| setup.env(name, &value);
        let daemon = variables(&text).into_iter().fold(setup, fill).stopped();
        let mut stage = Self {
            daemon,
            desk,
            replies,
        };
        stage.lead_modules_here();
        stage.daemon.restart();
        stage
    }

    /// Modules have addresses of their own: copies of those that do stand in for them.
    fn lead_modules_here(&self) {
        let module = "integrations/salesforce/create_lead.toml";
        let text =
            fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(module)).expect("a module");
        let copy = self.daemon.path(module);
        fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
        fs::write(copy, text.replace("https://", &self.desk.url("/"))).expect("a copy");
    }

    /// The answers to requests with this id, the last one for all further ones.
    fn answers(&self, id: &str, replies: &[Reply]) {
        let mut known = self.replies.lock().expect("no test panics with it");
        known.insert(id.to_owned(), replies.to_vec());
    }

    /// Sends an event of a lead to `endpoint` alone, whose requests are answered by `replies` if there are some.
    fn send(&self, endpoint: &str, id: &str, data: &str, replies: &[Reply]) {
        if !replies.is_empty() {
            self.answers(id, replies);
        }
        let data: Value = serde_json::from_str(data).expect("data is JSON");
        let event = json!({
            "type": "lead.created", "id": id, "source": "landing-page", "time": "2026-01-15T10:30:00Z",
            "endpoint": endpoint, "data": data,
        });
        self.daemon.accept(&event.to_string());
    }

    /// Waits until `count` requests are such, and gives the last of those.
    fn asked(&self, what: &str, count: usize, is: impl Fn(&Asked) -> bool) -> Asked {
        eventually(&format!("{count} requests {what}"), || {
            let asked = self.desk.asked();
            asked.into_iter().filter(|asked| is(asked)).nth(count - 1)
        })
    }

    /// Request number `count` with this id.
    fn request(&self, id: &str, count: usize) -> Asked {
        self.asked(id, count, |asked| asked.header("webhook-id") == id)
    }

    /// Every request for an event whose id begins so carries the lead, byte for byte.
    fn carries_leads(&self, ids: &str) {
        let asked = self.desk.asked();
        let mut ours = asked
            .iter()
            .filter(|asked| asked.header("webhook-id").starts_with(ids));
        assert!(ours.clone().next().is_some(), "{ids}");
        assert!(ours.all(|asked| asked.body == LEAD), "{ids}: {asked:?}");
    }

    /// Try number `count` at an event.
    fn attempt(&self, id: &str, count: usize) -> Value {
        eventually(&format!("try {count} at {id}"), || {
            let (_, page) = self.daemon.get(&format!("/v1/attempts?event={id}"));
            let newest_first = page["items"].as_array().cloned().unwrap_or_default();
            newest_first.into_iter().rev().nth(count - 1)
        })
    }

    /// The data of the event born from the answer to the one called `id`.
    fn born(&self, id: &str) -> Value {
        let event = |asked: &Asked| serde_json::from_str::<Value>(&asked.body).unwrap_or_default();
        let is_child = |asked: &Asked| asked.line.contains("/witness") && event(asked)["causeid"] == id;
        event(&self.asked("of the witness", 1, is_child))["data"].take()
    }

    fn play(&self, endpoint: &'static str, exchange: &Exchange, id: &str) {
        let content_type = format!("content-type: {}\r\n", exchange.content_type);
        let reply = (exchange.status, content_type, exchange.body.to_owned());
        self.send(endpoint, id, exchange.data, &[reply]);
        let is_skipped = matches!(exchange.ends, Ends::Skipped(_));
        match exchange.request {
            "" if is_skipped => {}
            "" => assert_eq!(self.request(id, 1).body, exchange.data, "{id}"),
            request => assert_request(&self.request(id, 1), request, id),
        }
        if let Ends::Skipped(reason) = exchange.ends {
            self.daemon.logs(&format!("\"reason\":\"{reason}\""));
            self.daemon
                .until_row(endpoint, "skipped", |row| row["attempts"]["skipped"] == 1);
            assert!(
                self.desk
                    .asked()
                    .iter()
                    .all(|asked| asked.header("webhook-id") != id)
            );
            return;
        }
        let attempt = self.attempt(id, 1);
        let (outcome, class, message) = match exchange.ends {
            Ends::Delivered | Ends::Born(_) | Ends::Skipped(_) => ("delivered", Value::Null, ""),
            Ends::Error(class, message) => ("error", class.into(), message),
            Ends::Rejected(message) => ("rejected", Value::Null, message),
        };
        assert_eq!(
            (&attempt["outcome"], &attempt["class"]),
            (&outcome.into(), &class),
            "{attempt}"
        );
        assert!(
            attempt["message"].as_str().unwrap_or_default().contains(message),
            "{attempt}"
        );
        if let Ends::Born(data) = exchange.ends {
            let data: Value = serde_json::from_str(data).expect("data is JSON");
            assert_eq!(self.born(id), data, "{endpoint}");
        }
    }
}

/// Compares a request with what [`Exchange::request`] says.
fn assert_request(asked: &Asked, expected: &str, id: &str) {
    let (head, body) = expected.split_once("\n\n").unwrap_or((expected, ""));
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().replace("{id}", id);
    assert_eq!(asked.line, format!("{line} HTTP/1.1"), "{id}");
    for header in lines {
        let (name, value) = header.split_once(": ").expect("a header");
        assert_text(asked.header(name), value, id, name);
    }
    assert_text(&asked.body, body, id, "body");
}

fn assert_text(text: &str, expected: &str, id: &str, what: &str) {
    let expected = expected.replace("{id}", id);
    let Some((before, after)) = expected.split_once("{time}") else {
        assert_eq!(text, expected, "{id}: {what}");
        return;
    };
    let time = text
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after));
    let today = now().to_string();
    assert!(
        time.is_some_and(|time| time.get(..4) == today.get(..4) && time.ends_with('Z')),
        "{id}: {what} is {text:?}, not {expected:?}"
    );
}

/// Runs every case of a file.
fn play(file: &str) {
    let stage = Stage::new(file);
    let cases = gallery().remove(file).expect("a file of the gallery");
    for Case { endpoint, run } in cases {
        match run {
            Run::By(run) => run(&stage, endpoint),
            Run::Sends(exchanges) => {
                for (number, exchange) in exchanges.iter().enumerate() {
                    stage.play(endpoint, exchange, &format!("{endpoint}-{number}"));
                }
            }
        }
    }
}

/// Every endpoint of every file in the folder has a case, no case is of something else, and each file passes `check` as it stands.
#[test]
fn every_example_is_run_and_checked() {
    let files: BTreeSet<String> = fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned())
        .collect();
    let gallery = gallery();
    assert_eq!(files, gallery.keys().map(ToString::to_string).collect());
    let daemon = Setup::new("").stopped();
    for (file, cases) in &gallery {
        let text = text_of(file);
        let written: toml::Table = toml::from_str(&text).expect("TOML");
        let endpoints = written["endpoint"].as_array().expect("endpoints");
        let names: Vec<&str> = endpoints
            .iter()
            .filter_map(|endpoint| endpoint["name"].as_str())
            .collect();
        let run: BTreeSet<&str> = cases.iter().map(|case| case.endpoint).collect();
        assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), run, "{file}");
        assert_eq!(names.len(), cases.len(), "{file}: one case for each endpoint");
        let path = folder().join(file).display().to_string();
        let mut command = daemon.command();
        command.args(["check", "--config", &path]).envs(variables(&text));
        let ran = crate::harness::run(&mut command, "").expect("posthaste can be run");
        assert!(ran.code == 0 && ran.out.contains("ok: "), "{file}: {ran:?}");
        // The one about TLS that is not verified is meant.
        let warnings = ran.err.lines().filter(|line| line.starts_with("warning: "));
        assert!(
            warnings.clone().all(|line| line.contains("tls.verify")),
            "{file}: {ran:?}"
        );
    }
}

/// D1, D2, D3, C6: keys, tokens and passwords of every kind.
#[test]
fn d1_d2_d3_examples_of_credentials() {
    play("credentials.toml");
}

/// D4, D5: signatures, each recomputed here.
#[test]
fn d4_d5_examples_of_signatures() {
    play("signatures.toml");
}

/// C2, C4, C5: JSON mapped, nested, cleaned, with metadata and a hash of the body and a secret.
#[test]
fn c2_c4_c5_examples_of_json_bodies() {
    play("json-bodies.toml");
}

/// C2, C7: forms, XML, SOAP, lines, text; packed.
#[test]
fn c2_c7_examples_of_other_formats() {
    play("other-formats.toml");
}

/// E1, E2, E3, E4, E7: what answers mean, and what is taken out of them.
#[test]
fn e1_e2_e3_e4_e7_examples_of_answers() {
    play("answers.toml");
}

/// F1, F2, F3, F8: tries again, and none.
#[test]
fn f1_f2_f3_f8_examples_of_retries() {
    play("retries.toml");
}

/// B2, B4, B5: addresses by event and time, in turns, the backup, and events left out.
#[test]
fn b2_b4_b5_examples_of_routing() {
    play("routing.toml");
}

/// C8, E5: batches by count, by a template that loops, and a result for each lead.
#[test]
fn c8_e5_examples_of_batches() {
    play("batches.toml");
}

/// B1, B3, B7, C2: webhooks for those who subscribe, with their envelopes, headers and signatures.
#[test]
fn b1_b3_b7_examples_of_webhooks() {
    play("webhooks.toml");
}

/// H9: modules filled in.
#[test]
fn h9_examples_of_modules() {
    play("modules.toml");
}

/// C9, C10, C11, C12: steps before and after, one after the other and side by side, with answers kept and every fallback.
#[test]
fn c9_c10_c11_c12_examples_of_steps() {
    play("steps.toml");
}

/// D6: connections kept, and one to a server whose certificate nobody knows.
#[test]
fn d6_examples_of_connections() {
    play("connections.toml");
}

/// H5, H7: alerts for the team, and saved cases.
#[test]
fn h5_h7_examples_of_looking_after() {
    play("watched.toml");
}
