//! `posthaste test`: runs the cases saved with the endpoints, each by a real request from here. Needs the configuration
//! and no daemon; nothing is stored.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::failure::{Done, Failure};
use super::print::{self, Column};
use crate::config::{self, DEFAULT_PATH};
use crate::daemon::clock::Clock;
use crate::delivery::trial::{ShownAnswer, Trial};
use crate::delivery::{Courier, Couriers};
use crate::domain::endpoint::{Endpoint, SavedCase};
use crate::ingest::build;
use crate::ingest::lines::Limits;
use crate::ingest::sender::Sender;
use crate::template::from_json;

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
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// JSON lines instead of a table
    #[arg(long)]
    json: bool,
}

/// How a case ended.
struct Ran {
    endpoint: String,
    case: String,
    /// Why it failed; `None`: it passed.
    failed: Option<String>,
    status: Option<u16>,
    took_ms: u128,
}

/// Runs the cases and shows how each ended.
///
/// # Errors
/// When one fails, when the configuration is not sound, and when there is no such endpoint.
pub async fn run(args: TestArgs) -> Done {
    let loaded = config::load(&args.config).map_err(|problems| Failure::Wrong(problems.to_string()))?;
    let limits = Limits {
        event_bytes_max: loaded.config.ingest.event_bytes_max,
        batch_bytes_max: loaded.config.ingest.batch_bytes_max,
    };
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
    let failed = ran.iter().filter(|ran| ran.failed.is_some()).count();
    if failed > 0 {
        return Err(Failure::Wrong(format!("{failed} of {} cases failed", ran.len())));
    }
    Ok(())
}

async fn run_case(endpoint: &Endpoint, case: &SavedCase, courier: &Courier, limits: &Limits) -> Ran {
    let mut ran = Ran {
        endpoint: endpoint.name.to_string(),
        case: case.name.to_string(),
        failed: None,
        status: None,
        took_ms: 0,
    };
    let now = Clock::wall();
    let event = match build::single(case.event.as_bytes(), limits, &Sender::of_user(0), now) {
        Ok(event) => event,
        Err(refused) => {
            ran.failed = Some(format!("the event: {}", refused.message));
            return ran;
        }
    };
    let trial = courier.try_out(&event, now, &case.steps).await;
    ran.status = trial.answer.as_ref().map(|answer| answer.status);
    ran.took_ms = trial.took.as_millis();
    let scope = endpoint
        .scope(&event.json, now)
        .with("outcome", trial.outcome.name())
        .with("response", from_json(response(trial.answer.as_ref())));
    ran.failed = match case.expect.test(&scope) {
        Ok(true) => None,
        Ok(false) => Some(format!("not {}; {}", case.expect.source(), ended(&trial))),
        Err(error) => Some(format!("expect can't be worked out: {error}; {}", ended(&trial))),
    };
    ran
}

fn ended(trial: &Trial) -> String {
    match &*trial.message {
        "" => trial.outcome.name().to_owned(),
        message => message.to_owned(),
    }
}

/// What `expect` sees as `response`: the members of a JSON object, `status_code`, `headers` and the text as `body`.
fn response(answer: Option<&ShownAnswer>) -> Value {
    let Some(answer) = answer else {
        return json!({});
    };
    let mut members: Map<String, Value> = serde_json::from_str(&answer.body).unwrap_or_default();
    let headers = answer
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()));
    members.insert("headers".to_owned(), Value::Object(headers.collect()));
    members.insert("status_code".to_owned(), answer.status.into());
    members.insert("body".to_owned(), answer.body.clone().into());
    Value::Object(members)
}

fn show(ran: &[Ran], json: bool) -> Done {
    if json {
        return ran.iter().try_for_each(|ran| {
            print::json_line(&json!({
                "endpoint": ran.endpoint, "case": ran.case, "passed": ran.failed.is_none(),
                "why": ran.failed, "status": ran.status, "duration_ms": u64::try_from(ran.took_ms).unwrap_or(u64::MAX),
            }))
        });
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
            if ran.failed.is_none() { "ok" } else { "FAILED" }.to_owned(),
            print::or_dash(ran.status),
            ran.took_ms.to_string(),
            ran.failed.clone().unwrap_or_default(),
        ]
    });
    print::line(&print::printable(&print::table(&columns, rows)))
}
