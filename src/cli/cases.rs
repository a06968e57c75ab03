//! `posthaste test`: runs the cases saved with the endpoints, each by a real request from here. Needs the configuration
//! and no daemon; nothing is stored.

use std::path::PathBuf;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::failure::{Done, Failure};
use super::print::{self, Column};
use crate::config::{self, Config, DEFAULT_PATH};
use crate::daemon::clock::Clock;
use crate::daemon::trial;
use crate::delivery::scene::Load;
use crate::delivery::trial::Trial;
use crate::delivery::{Courier, Couriers};
use crate::domain::endpoint::{Endpoint, SavedCase};
use crate::domain::event::Event;
use crate::domain::outcome::{ErrorClass, Outcome};
use crate::domain::time::Timestamp;
use crate::ingest::build;
use crate::ingest::lines::Limits;
use crate::ingest::sender::Sender;
use crate::template::Scope;

/// Arguments of `test`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  posthaste test
  posthaste test crm-sync --config ./config.toml")]
pub struct TestArgs {
    /// The endpoint whose cases to run; without one those of all
    #[arg(value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH, env = "POSTHASTE_CONFIG")]
    config: PathBuf,
    /// JSON lines instead of a table
    #[arg(long)]
    json: bool,
}

/// How a case ended; a line of `test --json`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Ran {
    /// Whose case it is.
    endpoint: String,
    /// Its name.
    case: String,
    /// Whether what it expects came true.
    passed: bool,
    /// Why not; `null`: it passed.
    why: Option<String>,
    /// What would keep the event from going out, though the case was run; `null`: nothing.
    note: Option<String>,
    /// Status of the answer; `null`: none came.
    status: Option<u16>,
    /// What the request took.
    duration_ms: u64,
}

impl Ran {
    /// The same, failed for a reason or passed.
    fn judged(self, why: Option<String>) -> Self {
        Self {
            passed: why.is_none(),
            why,
            ..self
        }
    }
}

/// Runs the cases and shows how each ended.
///
/// # Errors
/// When one fails, when the configuration is not sound, and when there is no such endpoint.
pub async fn run(args: TestArgs) -> Done {
    let loaded = config::load(&args.config).map_err(|problems| Failure::Wrong(problems.to_string()))?;
    let limits = limits(&loaded.config);
    let wanted = |endpoint: &Endpoint| args.endpoint.as_ref().is_none_or(|name| **name == *endpoint.name);
    let endpoints: Vec<_> = loaded.config.endpoints.iter().filter(|e| wanted(e)).collect();
    if let (Some(name), []) = (&args.endpoint, &endpoints[..]) {
        return Err(Failure::Wrong(format!(
            "there is no endpoint {name:?} in {}",
            args.config.display()
        )));
    }
    let couriers = Couriers::new();
    let mut ran = Vec::new();
    for endpoint in endpoints.iter().filter(|endpoint| !endpoint.cases.is_empty()) {
        let courier = couriers
            .prepare(endpoint)
            .map_err(|why| Failure::Wrong(format!("endpoint {}: {why}", endpoint.name)))?;
        for case in &endpoint.cases {
            ran.push(run_case(endpoint, case, &courier, &limits).await);
        }
    }
    show(&ran, args.json)?;
    let failed = ran.iter().filter(|ran| !ran.passed).count();
    if failed > 0 {
        return Err(Failure::Wrong(format!("{failed} of {} cases failed", ran.len())));
    }
    Ok(())
}

/// How large the events of cases may be.
pub(super) fn limits(config: &Config) -> Limits {
    Limits {
        event_bytes_max: config.ingest.event_bytes_max,
        batch_bytes_max: config.ingest.batch_bytes_max,
    }
}

async fn run_case(endpoint: &Endpoint, case: &SavedCase, courier: &Courier, limits: &Limits) -> Ran {
    let unsent = Ran {
        endpoint: endpoint.name.to_string(),
        case: case.name.to_string(),
        passed: true,
        why: None,
        note: (!endpoint.enabled)
            .then(|| "the endpoint is disabled, so the delivery would be parked".to_owned()),
        status: None,
        duration_ms: 0,
    };
    let now = Clock::wall();
    let event = match event(case, limits, now) {
        Ok(event) => event,
        Err(why) => return unsent.judged(Some(why)),
    };
    if let Err(why) = trial::owed(endpoint, &event) {
        let scope = trial::seen(endpoint, &event, now);
        return unsent.judged(judged(case, scope, Outcome::Skipped, &not_owed(&why)));
    }
    let trial = trial::try_out(endpoint, courier, &event, now, &case.steps).await;
    let sent = Ran {
        status: trial.answer.as_ref().map(|answer| answer.status),
        duration_ms: u64::try_from(trial.took.as_millis()).unwrap_or(u64::MAX),
        ..unsent
    };
    sent.judged(judged(case, trial.scope.clone(), trial.outcome, &ended(&trial)))
}

/// The event of a case, as it would be if root sent it.
fn event(case: &SavedCase, limits: &Limits, now: Timestamp) -> Result<Event, String> {
    let event = build::single(case.event.as_bytes(), limits, &Sender::of_user(0), now);
    event.map_err(|refused| format!("the event: {}", refused.message))
}

/// What a case comes to whose event the endpoint is not owed.
fn not_owed(why: &str) -> String {
    format!("the endpoint does not get the event: {why}")
}

/// Why the case failed, if `expect` does not hold in `scope` of a try with this outcome; `ended` says more of it.
fn judged(case: &SavedCase, scope: Scope, outcome: Outcome, ended: &str) -> Option<String> {
    let class = outcome.class().map_or("", ErrorClass::name);
    let scope = scope.with("outcome", outcome.name()).with("error_class", class);
    match case.expect.test(&scope) {
        Ok(true) => None,
        Ok(false) => Some(format!("not {}; {ended}", case.expect.source())),
        Err(error) => Some(format!("expect can't be worked out: {error}; {ended}")),
    }
}

/// Why a case fails before anything is sent: its event is kept from going out, or no request can be made of it, and the
/// case does not expect just that.
///
/// # Errors
/// One sentence.
pub(super) fn renders(
    endpoint: &Endpoint,
    case: &SavedCase,
    courier: &Courier,
    limits: &Limits,
) -> Result<(), String> {
    let now = Clock::wall();
    let event = event(case, limits, now)?;
    let kept = match trial::owed(endpoint, &event) {
        Ok(_) => trial::held_back(endpoint, &event, now),
        Err(why) => Some((Outcome::Skipped, not_owed(&why))),
    };
    let (outcome, why) = match kept {
        Some(kept) => kept,
        None => match courier.show_all(&Load::alone(&event, 1, now)).request {
            Ok(_) => return Ok(()),
            Err(why) => (Outcome::Error(ErrorClass::Render), why),
        },
    };
    match judged(case, trial::seen(endpoint, &event, now), outcome, &why) {
        None => Ok(()),
        Some(_) => Err(why),
    }
}

fn ended(trial: &Trial) -> String {
    match &*trial.message {
        "" => trial.outcome.name().to_owned(),
        message => message.to_owned(),
    }
}

fn show(ran: &[Ran], json: bool) -> Done {
    if json {
        return ran.iter().try_for_each(print::json_line);
    }
    if ran.is_empty() {
        return print::line("no cases are saved; add [[endpoint.test]] with name, event and expect");
    }
    let columns = [
        Column::Text("ENDPOINT"),
        Column::Text("CASE"),
        Column::Text("RESULT"),
        Column::Number("STATUS"),
        Column::Number("MS"),
        Column::Text("WHY"),
    ];
    let rows = ran.iter().map(|ran| {
        vec![
            ran.endpoint.clone(),
            ran.case.clone(),
            if ran.passed { "ok" } else { "FAILED" }.to_owned(),
            print::or_dash(ran.status),
            ran.duration_ms.to_string(),
            ran.why.clone().or_else(|| ran.note.clone()).unwrap_or_default(),
        ]
    });
    print::line(&print::printable(&print::table(&columns, rows)))
}
