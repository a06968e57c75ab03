//! What one try costs before and after the network, in a loop that does nothing else: making and signing a request of
//! 1 KiB, and reading its answer; with the event as it is, and by a template, a condition and captures. `cargo bench`
//! prints microseconds, the medians of rounds taken in turns; `cargo bench --bench delivery -- templated` measures one.

use std::error::Error;
use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue};
use posthaste::cli::bench::templated::KEYS;
use posthaste::config::load;
use posthaste::delivery::failure::Failure;
use posthaste::delivery::fields::Fields;
use posthaste::delivery::interpret::Judge;
use posthaste::delivery::reading::Reader;
use posthaste::delivery::render::Composer;
use posthaste::delivery::scene::Load;
use posthaste::delivery::send::Answer;
use posthaste::delivery::sign::Signer;
use posthaste::domain::endpoint::Endpoint;
use posthaste::domain::event::{Event, EventHead};
use posthaste::domain::time::Timestamp;

/// As in the daemon.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: Timestamp = Timestamp(1_736_937_000_000);
const ROUND: Duration = Duration::from_millis(200);
const ROUNDS: usize = 15;
const EVENT_BYTES: usize = 1024;

/// An endpoint called `name`, with more `keys`.
fn endpoint(name: &str, keys: &str) -> String {
    format!(
        "[[endpoint]]\nname = \"{name}\"\nurl = \"http://127.0.0.1/hook\"\nevents = [\"lead.**\"]\n\
         sign = [{{ scheme = \"standard\", secrets = [\"whsec_cG9zdGhhc3RlIGJlbmNoIHNlY3JldCAxMjM0\"] }}]\n{keys}"
    )
}

/// An endpoint's part in a try.
struct Side {
    composer: Composer,
    signer: Signer,
    judge: Judge,
    reader: Option<Reader>,
}

impl Side {
    fn new(endpoint: &Endpoint) -> Result<Self, String> {
        Ok(Self {
            composer: Composer::new(endpoint)?,
            signer: Signer::new(&endpoint.sign)?,
            judge: Judge {
                success_status: endpoint.response.success_status.clone(),
                retry_after_max: endpoint.retry.max_retry_after,
            },
            reader: Reader::new(endpoint),
        })
    }

    /// One try; whether it came to a delivery.
    fn go(&self, event: &Event, answer: &Result<Answer, Failure>) -> Result<bool, String> {
        let load = Load::alone(event, 1, NOW);
        let course = self.composer.course(&load)?;
        let mut request = self.composer.compose(&load, &course, 0)?;
        self.signer.sign(&mut request, NOW)?;
        black_box(&request);
        let verdict = self.judge.interpret(answer, "127.0.0.1:80", NOW);
        let reading = match (&self.reader, answer) {
            (Some(reader), Ok(answer)) => reader.read(&load, course.scope(), answer, "127.0.0.1:80", verdict),
            _ => verdict.into(),
        };
        Ok(black_box(reading).is_delivered())
    }
}

fn event(number: u64) -> Event {
    let id = format!("{number:026}");
    let begin = format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/bench\",\"type\":\"lead.created\",\"time\":\"2025-01-15T10:30:00Z\",\
         \"data\":{{\"email\":\"ann@example.com\",\"phone\":\"(555) 123-4567\",\"first_name\":\"Ann\",\"state\":\"CA\",\"score\":85,\
         \"text\":\""
    );
    let end = "\"}}";
    let filling = "x".repeat(EVENT_BYTES - begin.len() - end.len());
    Event {
        head: EventHead::new(id, "/bench", "lead.created", NOW),
        json: Bytes::from(format!("{begin}{filling}{end}")),
    }
}

fn answer() -> Answer {
    let headers: Fields = [
        (CONTENT_TYPE, "application/json"),
        (CONTENT_LENGTH, "62"),
        (DATE, "Wed, 15 Jan 2025 10:30:00 GMT"),
    ]
    .into_iter()
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
    .collect();
    Answer {
        status: http::StatusCode::CREATED,
        headers: headers.into(),
        body: Bytes::from_static(br#"{"status":"created","lead":{"id":"L-1002003","score":85.5}}"#),
        is_cut: false,
        broken: None,
    }
}

/// Microseconds a try.
fn round(side: &Side, events: &[Event]) -> Result<f64, String> {
    let answer = Ok(answer());
    let (began, mut tries) = (Instant::now(), 0_u32);
    while began.elapsed() < ROUND {
        for event in events {
            if !side.go(event, &answer)? {
                return Err("it is not delivered".to_owned());
            }
            tries += 1;
        }
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(tries))
}

fn measure(config: &Path, named: &[String]) -> Result<String, Box<dyn Error>> {
    let config = load(config).map_err(|problems| format!("{problems}"))?.config;
    let is_meant = |name: &str| named.is_empty() || named.iter().any(|wanted| wanted == name);
    let endpoints = config
        .endpoints
        .iter()
        .filter(|endpoint| is_meant(&endpoint.name));
    let endpoints: Vec<_> = endpoints.collect();
    let sides: Vec<Side> = endpoints
        .iter()
        .map(|endpoint| Side::new(endpoint))
        .collect::<Result<_, _>>()?;
    let events: Vec<Event> = (0..256).map(event).collect();
    let mut took = vec![Vec::new(); sides.len()];
    for _ in 0..ROUNDS {
        for (side, took) in sides.iter().zip(&mut took) {
            took.push(round(side, &events)?);
        }
    }
    let mut report = String::new();
    for (endpoint, took) in endpoints.iter().zip(&mut took) {
        took.sort_unstable_by(f64::total_cmp);
        writeln!(
            report,
            "{:<10} {:6.2} µs a try (best {:.2})",
            endpoint.name,
            took[ROUNDS / 2],
            took[0]
        )?;
    }
    Ok(report)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (flags, named): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with('-'));
    // `cargo test --benches` only sees whether it can be built.
    if !flags.iter().any(|flag| flag == "--bench") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.toml");
    let endpoints = [endpoint("plain", ""), endpoint("templated", KEYS)];
    std::fs::write(&config, endpoints.concat())?;
    print!("{}", measure(&config, &named)?);
    Ok(())
}
