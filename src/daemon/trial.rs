//! What would become of an event at each endpoint, and a try at one of them, without a trace of either in the store,
//! the numbers or the scheduler.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::control::types::{ExplainedEndpoint, ExplainedStep, Explanation, RequestView, TestView};
use crate::delivery::Courier;
use crate::delivery::scene::{self, Load, Scene};
use crate::delivery::steps::show::ShownStep;
use crate::delivery::trial::{Shown, ShownRequest, Trial};
use crate::domain::endpoint::{CannedAnswer, Endpoint, Judgement, Stage};
use crate::domain::event::Event;
use crate::domain::filter::EventJson;
use crate::domain::names::name_of;
use crate::domain::outcome::{ErrorClass, Exchange, Outcome};
use crate::domain::route::{addressees, is_owed};
use crate::domain::time::Timestamp;
use crate::ingest::build;
use crate::ingest::lines::Limits;
use crate::ingest::sender::Sender;
use crate::template::Scope;

/// The event of a test that names none.
const PING: &str = r#"{"type":"posthaste.ping","source":"/posthaste","data":{}}"#;
/// Marks the event of a test, for receivers that must tell it from others.
const MARK: &str = r#"{"is_ping":true,"#;

/// The event in `text`, as it would be if root sent it.
///
/// # Errors
/// Why no producer could send it.
pub fn event(text: &str, limits: &Limits, now: Timestamp) -> Result<Event, String> {
    build::single(text.as_bytes(), limits, &Sender::of_user(0), now).map_err(|refused| refused.message)
}

/// The event of a test: the one in `text`, or a ping, marked by `is_ping`.
///
/// # Errors
/// Those of [`event`].
pub fn marked(text: Option<&str>, limits: &Limits, now: Timestamp) -> Result<Event, String> {
    let mut event = event(text.unwrap_or(PING), limits, now)?;
    let json = event.json.trim_ascii_start();
    let rest = json.strip_prefix(b"{").unwrap_or(json);
    event.json = Bytes::from([MARK.as_bytes(), rest].concat());
    Ok(event)
}

/// What would become of `event` at `endpoints`, each with its courier, at `now`.
#[must_use]
pub fn explain(
    event: &Event,
    endpoints: &[(&Endpoint, Result<Courier, String>)],
    now: Timestamp,
) -> Explanation {
    let text = String::from_utf8_lossy(&event.json).into_owned();
    let each = endpoints.iter().map(|(endpoint, courier)| {
        let (gets, why) = match verdict(endpoint, event, now) {
            Ok(why) => (true, why),
            Err(why) => (false, why),
        };
        let shown = gets.then(|| match courier {
            Ok(courier) => courier.show_all(&Load::alone(event, 1, now)),
            Err(why) => Shown {
                steps: Vec::new(),
                request: Err(why.clone()),
            },
        });
        let (steps, request) = shown.map(|shown| (shown.steps, shown.request)).unzip();
        let (request, error) = match request {
            Some(Ok(request)) => (Some(view(request)), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        ExplainedEndpoint {
            endpoint: endpoint.name.to_string(),
            gets,
            why,
            state: None,
            steps: steps.unwrap_or_default().into_iter().map(step_view).collect(),
            request,
            error,
        }
    });
    Explanation {
        event: RawValue::from_string(text).unwrap_or_default(),
        endpoints: each.collect(),
    }
}

/// Makes one try at `event`, which `endpoint` is owed, with its courier and the answers in `canned`: as the daemon does, no
/// request is made where `when` leaves the event out or can't be worked out.
pub async fn try_out(
    endpoint: &Endpoint,
    courier: &Courier,
    event: &Event,
    now: Timestamp,
    canned: &[CannedAnswer],
) -> Trial {
    match held_back(endpoint, event, now) {
        Some((outcome, why)) => Trial::unsent(seen(endpoint, event, now), outcome, why, Duration::ZERO),
        None => courier.try_out(event, now, canned).await,
    }
}

/// How a first try at `event`, which `endpoint` is owed, ends before there is a request: the outcome, and one sentence why.
/// `None`: a request is made.
#[must_use]
pub fn held_back(endpoint: &Endpoint, event: &Event, now: Timestamp) -> Option<(Outcome, String)> {
    match scene::judge(endpoint, &Load::alone(event, 1, now)) {
        Ok(Judgement::Send) => None,
        Ok(Judgement::Skip(reason)) => Some((Outcome::Skipped, format!("skipped by `when`: {reason}"))),
        Err(why) => Some((Outcome::Error(ErrorClass::Render), why)),
    }
}

/// What the endpoint's rules see of `event` on its first try, before there are steps and an answer.
#[must_use]
pub fn seen(endpoint: &Endpoint, event: &Event, now: Timestamp) -> Scope {
    let scene = Scene::new(endpoint);
    let scope = scene.of(&Load::alone(event, 1, now));
    scope.unwrap_or_else(|_| scene.without_event(now))
}

/// Why `endpoint` is owed the event.
///
/// # Errors
/// Why it is not.
pub fn owed(endpoint: &Endpoint, event: &Event) -> Result<String, String> {
    let (kind, tenant) = (&*event.head.kind, event.head.tenant.as_deref());
    let json: serde_json::Value = serde_json::from_slice(&event.json).unwrap_or_default();
    let addressed = json.get("endpoint").and_then(serde_json::Value::as_str);
    if !is_owed(endpoint, kind, tenant, addressed) {
        return Err(why_not(endpoint, kind, tenant, addressed));
    }
    if addressed.is_none() && !endpoint.selection.lets_pass(&EventJson::new(&event.json)) {
        return Err("its filter does not let the event pass".to_owned());
    }
    Ok(match addressed {
        Some(_) => "the event is addressed to it".to_owned(),
        None => format!("it takes events of type {kind}"),
    })
}

/// Why `endpoint` gets the event; or why it does not.
fn verdict(endpoint: &Endpoint, event: &Event, now: Timestamp) -> Result<String, String> {
    let why = owed(endpoint, event)?;
    match held_back(endpoint, event, now) {
        None => {}
        Some((Outcome::Skipped, why)) => return Err(why),
        Some((_, why)) => return Ok(format!("every try fails: {why}")),
    }
    Ok(match endpoint.enabled {
        true => why,
        false => format!("{why}; it is disabled, so the delivery would be parked"),
    })
}

fn why_not(endpoint: &Endpoint, kind: &str, tenant: Option<&str>, addressed: Option<&str>) -> String {
    if let Some(names) = addressed {
        let names: Vec<_> = addressees(names).collect();
        return format!("the event is addressed to {} alone", names.join(", "));
    }
    if !endpoint.tenant.is_empty() && Some(&*endpoint.tenant) != tenant {
        let of = tenant.unwrap_or("none");
        return format!(
            "it takes events of tenant {}, this one is of {of}",
            endpoint.tenant
        );
    }
    let patterns: Vec<_> = endpoint.events.iter().map(|pattern| pattern.as_str()).collect();
    format!("{kind} is none of the types it takes: {}", patterns.join(", "))
}

fn step_view(step: ShownStep) -> ExplainedStep {
    ExplainedStep {
        name: step.name.to_string(),
        stage: name_of(Stage::NAMES, &step.stage).to_owned(),
        request: step.request.map(view),
        why: step.why.to_string(),
    }
}

fn view(request: ShownRequest) -> RequestView {
    RequestView {
        line: request.line,
        headers: request.headers,
        body: request.body,
    }
}

/// A test of the endpoint called `name`, for whoever asked for it.
#[must_use]
pub fn tested(name: String, trial: Trial) -> TestView {
    let answer = trial.answer;
    TestView {
        endpoint: name,
        outcome: trial.outcome.name().to_owned(),
        message: trial.message,
        duration_ms: u64::try_from(trial.took.as_millis()).unwrap_or(u64::MAX),
        exchange: (trial.exchange != Exchange::default()).then(|| trial.exchange.into()),
        request: trial.request.map(view),
        status: answer.as_ref().map(|answer| answer.status),
        response_headers: answer
            .as_ref()
            .map(|answer| answer.headers.clone())
            .unwrap_or_default(),
        response_body: answer.map(|answer| answer.body).unwrap_or_default(),
        steps: trial
            .kept
            .iter()
            .flat_map(|kept| &kept.steps)
            .map(Into::into)
            .collect(),
        flags: trial
            .kept
            .iter()
            .flat_map(|kept| &kept.flags)
            .map(ToString::to_string)
            .collect(),
    }
}
