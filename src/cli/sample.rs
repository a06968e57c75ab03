//! Events of the operator's for `posthaste check`: every template and expression that a request for one of them is made of
//! is rendered, and what fails is shown where it was written. Sends nothing. What an answer or a step's answer has to be
//! there for is left to saved cases, which bring their own.

use std::path::Path;

use serde_json::value::RawValue;

use super::{cases, input};
use crate::config::{Loaded, Noted, Problem};
use crate::daemon::clock::Clock;
use crate::daemon::trial;
use crate::delivery::scene::{Load, Scene};
use crate::delivery::steps::show::ShownStep;
use crate::delivery::{Courier, Couriers};
use crate::domain::endpoint::{Endpoint, Stage};
use crate::domain::event::Event;
use crate::domain::outcome::Outcome;
use crate::domain::time::Timestamp;
use crate::ingest::build;
use crate::ingest::sender::Sender;
use crate::template::Scope;

/// Names whose values no event changes.
const LASTING: [&str; 4] = ["now", "vars", "secrets", "endpoint"];
/// Names that need an answer.
const OF_ANSWERS: [&str; 7] = [
    "appended",
    "captured",
    "error_class",
    "item",
    "outcome",
    "response",
    "signature",
];

/// What events came to.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// What fails whatever the event is: texts that read nothing of it, and can't be rendered.
pub(super) fn lasting(loaded: &Loaded) -> Vec<Problem> {
    let now = Clock::wall();
    let mut problems = Vec::new();
    for (endpoint, noted) in loaded.config.endpoints.iter().zip(&loaded.noted) {
        let scope = Scene::new(endpoint).without_event(now);
        let lasting = noted
            .iter()
            .filter(|noted| noted.names().all(|name| LASTING.contains(&name)));
        problems.extend(failing(lasting, &scope, "whatever the event"));
    }
    problems
}

/// An endpoint, its texts, and the courier that makes its requests.
type Prepared<'a> = (&'a Endpoint, &'a [Noted], Result<Courier, String>);

/// What fails of the events in `file` (`-`: standard input): one JSON object, or several, after one another or in an array.
/// `config` is the file that problems without a line are said of.
pub(super) fn rendered(file: &Path, config: &Path, loaded: &Loaded) -> Found {
    let mut found = Found::default();
    let of_file = |message: String, help: &str| Problem::of_file(file.to_owned(), message, help);
    let help = "write one event, or several in lines: {\"type\":\"contact.created\",\"data\":{}}";
    let events = match events(file) {
        Ok(events) => events,
        Err(why) => {
            found.problems.push(of_file(why, help));
            return found;
        }
    };
    let couriers = Couriers::new();
    let prepared = loaded.config.endpoints.iter().zip(&loaded.noted);
    let endpoints: Vec<Prepared<'_>> = prepared
        .map(|(endpoint, noted)| (&**endpoint, &**noted, couriers.prepare(endpoint)))
        .collect();
    let limits = cases::limits(&loaded.config);
    for (index, text) in events.iter().enumerate() {
        let (now, number) = (Clock::wall(), index + 1);
        let event = match build::single(text.get().as_bytes(), &limits, &Sender::of_user(0), now) {
            Ok(event) => event,
            Err(refused) => {
                let says = format!("event {number}: {}", refused.message);
                found.problems.push(of_file(says, help));
                continue;
            }
        };
        let name = format!("event {number} ({})", event.head.kind);
        let wanting: Vec<_> = endpoints
            .iter()
            .filter(|(endpoint, ..)| trial::owed(endpoint, &event).is_ok())
            .collect();
        if wanting.is_empty() {
            let warning = of_file(
                format!("{name} is wanted by no endpoint"),
                "posthaste explain says why",
            );
            found.warnings.push(warning);
        }
        for prepared in wanting {
            found
                .problems
                .extend(of_one(prepared, &event, now, config, &format!("for {name}")));
        }
    }
    found
}

/// The problems of `event` at one endpoint that is owed it.
fn of_one(prepared: &Prepared<'_>, event: &Event, now: Timestamp, config: &Path, whom: &str) -> Vec<Problem> {
    let (endpoint, noted, courier) = prepared;
    let problem = |key: &str, why: &str| Problem {
        key: format!("endpoint.{}{key}", endpoint.name),
        ..Problem::of_file(config.to_owned(), format!("{whom}: {why}"), "")
    };
    match courier {
        Ok(courier) => One {
            endpoint,
            noted,
            courier,
            event,
            now,
        }
        .problems(whom, &problem),
        Err(why) => vec![problem("", why)],
    }
}

/// The events in `file`, at least one.
///
/// # Errors
/// One sentence.
fn events(file: &Path) -> Result<Vec<Box<RawValue>>, String> {
    let text = input::text(file).map_err(|error| format!("the file can't be read: {error}"))?;
    let events = parsed(&text).map_err(|error| format!("it is not JSON: {error}"))?;
    match events.is_empty() {
        true => Err("there is no event in it".to_owned()),
        false => Ok(events),
    }
}

fn parsed(text: &str) -> serde_json::Result<Vec<Box<RawValue>>> {
    let mut events = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Box<RawValue>>() {
        let value = value?;
        match value.get().starts_with('[') {
            true => events.extend(serde_json::from_str::<Vec<Box<RawValue>>>(value.get())?),
            false => events.push(value),
        }
    }
    Ok(events)
}

/// The problems of those texts that can't be rendered in `scope`.
fn failing<'n>(texts: impl Iterator<Item = &'n Noted>, scope: &Scope, whom: &str) -> Vec<Problem> {
    texts
        .filter_map(|noted| Some(noted.problem(noted.render(scope).err()?, whom)))
        .collect()
}

/// One event at one endpoint that is owed it.
struct One<'a> {
    endpoint: &'a Endpoint,
    noted: &'a [Noted],
    courier: &'a Courier,
    event: &'a Event,
    now: Timestamp,
}

impl One<'_> {
    /// Every text of the requests that fails; and where none does, why a request can't be made nonetheless.
    fn problems(&self, whom: &str, problem: &impl Fn(&str, &str) -> Problem) -> Vec<Problem> {
        let held_back = trial::held_back(self.endpoint, self.event, self.now);
        if matches!(held_back, Some((Outcome::Skipped, _))) {
            return Vec::new();
        }
        let load = Load::alone(self.event, 1, self.now);
        let scope = self.courier.seen(&load);
        let shown = self.courier.show_all(&load);
        let route = self.route(&scope);
        let reached = self
            .noted
            .iter()
            .filter(|noted| !reads_answers(noted) && self.is_reached(noted.key(), route, &shown.steps));
        let mut problems = failing(reached, &scope, whom);
        if !problems.is_empty() {
            return problems;
        }
        if let Some((_, why)) = held_back {
            return vec![problem(".when", &why)];
        }
        if let Err(why) = &shown.request
            && !self.hangs_on_answers(|key| !key.starts_with("step["))
        {
            problems.push(problem("", why));
        }
        for (index, step) in shown.steps.iter().enumerate() {
            let within = format!("step[{}].", index + 1);
            let failed = step.request.is_none() && step.stage == Stage::Before && !step.is_skipped;
            if failed && !self.hangs_on_answers(|key| key.starts_with(&within)) {
                problems.push(problem(&format!(".step[{}]", index + 1), &step.why));
            }
        }
        problems
    }

    /// Which route is taken, or is the first that nobody can say of whether it is.
    fn route(&self, scope: &Scope) -> Option<usize> {
        let mut routes = self.endpoint.request.routes.iter();
        routes.position(|route| route.when.test(scope).unwrap_or(true))
    }

    /// Whether the text at `key` is rendered for an event that takes `route`.
    fn is_reached(&self, key: &str, route: Option<usize>, steps: &[ShownStep]) -> bool {
        let (section, rest) = key.split_once('.').unwrap_or((key, ""));
        let chosen = route.and_then(|index| self.endpoint.request.routes.get(index));
        match (numbered(section, "route"), numbered(section, "step")) {
            (Some(index), _) if rest == "when" => route.is_none_or(|chosen| index <= chosen),
            (Some(index), _) => route == Some(index),
            (_, Some(index)) => {
                steps.get(index).is_some_and(|step| !step.is_skipped) && !rest.starts_with("route[")
            }
            _ => match section {
                "test" | "response" | "skip_reason" => false,
                "url" | "urls" => chosen.is_none_or(|route| route.address.is_none()),
                "method" => chosen.is_none_or(|route| route.method.is_none()),
                _ => numbered(section, "test").is_none(),
            },
        }
    }

    /// Whether any of the texts at keys that are `such` needs an answer.
    fn hangs_on_answers(&self, such: impl Fn(&str) -> bool) -> bool {
        let mut texts = self.noted.iter().filter(|noted| such(noted.key()));
        texts.any(|noted| noted.names().any(|name| name == "appended"))
    }
}

fn reads_answers(noted: &Noted) -> bool {
    noted.names().any(|name| OF_ANSWERS.contains(&name))
}

/// The index of `section[1]`, from 0.
fn numbered(section: &str, name: &str) -> Option<usize> {
    let number = section.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?;
    number.parse::<usize>().ok()?.checked_sub(1)
}
