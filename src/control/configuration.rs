//! The configuration in force, for people: secrets masked, values as config.toml writes them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{ConnectInfo, State};

use super::error::{ApiError, ApiResult};
use super::server::{App, Peer, audit};
use super::types::{ConfigView, EndpointConfig, ReloadReport};
use super::units::{bytes_text, duration_text};
use crate::config::{Config, FreeMin, LogFormat};
use crate::domain::backoff::Schedule;
use crate::domain::endpoint::{Endpoint, RetryMatch, SignPolicy};

/// Stands for a value that may be a secret.
const MASK: &str = "[secret]";

/// `GET /v1/config`
pub async fn show(State(app): State<App>) -> Json<ConfigView> {
    Json(view(&app.operator.config()))
}

/// `POST /v1/reload`: all or nothing. 422 with every problem when the files are not good.
pub async fn reload(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> ApiResult<Json<ReloadReport>> {
    match app.operator.reload().await {
        Ok(report) => {
            audit(peer, "reload", &report.hash, "adopted");
            Ok(Json(report))
        }
        Err(problems) => {
            audit(
                peer,
                "reload",
                "",
                &format!("refused for {} problems", problems.len()),
            );
            Err(ApiError::invalid_config(problems))
        }
    }
}

fn table(entries: impl IntoIterator<Item = (&'static str, String)>) -> BTreeMap<String, String> {
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn view(config: &Config) -> ConfigView {
    let socket = |path: &std::path::Path, mode: u32, group: &str| {
        [
            ("socket", path.display().to_string()),
            ("mode", format!("{mode:04o}")),
            ("group", group.to_owned()),
        ]
    };
    let (store, ingest, control) = (&config.store, &config.ingest, &config.control);
    let mut ingest_table = table(socket(&ingest.socket, ingest.mode, &ingest.group));
    ingest_table.extend(table([
        ("max_event", bytes_text(ingest.event_bytes_max as u64)),
        ("max_connections", ingest.connections_max.to_string()),
    ]));
    let store_table = table([
        ("path", store.path.display().to_string()),
        ("max_size", bytes_text(store.size_bytes_max)),
        ("min_free", free_min_text(store.free_min)),
        ("dedup_window", duration_text(store.dedup_window)),
        ("dedup_max", store.dedup_ids_max.to_string()),
        ("dead_keep", duration_text(store.dead_keep)),
    ]);
    let limits_table = table([
        ("in_flight", config.limits.in_flight_max.to_string()),
        ("shutdown", duration_text(config.limits.shutdown)),
    ]);
    let log_table = table([
        ("format", log_format_text(config.log.format).to_owned()),
        ("level", config.log.level.clone()),
        ("payloads", config.log.payloads.to_string()),
    ]);
    let control_table = table(socket(&control.socket, control.mode, &control.group));
    let daemon = [
        ("store", store_table),
        ("ingest", ingest_table),
        ("control", control_table),
        ("log", log_table),
        ("limits", limits_table),
    ];
    ConfigView {
        hash: config.hash.clone(),
        daemon: daemon
            .into_iter()
            .map(|(name, table)| (name.to_owned(), table))
            .collect(),
        endpoints: config
            .endpoints
            .iter()
            .map(|endpoint| endpoint_config(endpoint))
            .collect(),
    }
}

fn free_min_text(free_min: FreeMin) -> String {
    match free_min {
        FreeMin::Percent(percent) => format!("{percent}%"),
        FreeMin::Bytes(bytes) => bytes_text(bytes),
    }
}

fn log_format_text(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
        LogFormat::Journald => "journald",
    }
}

/// How one endpoint is configured. Header values are masked, all of them: any may hold a token.
#[must_use]
pub fn endpoint_config(endpoint: &Endpoint) -> EndpointConfig {
    let (request, retry, breaker) = (&endpoint.request, &endpoint.retry, &endpoint.breaker);
    EndpointConfig {
        name: endpoint.name.to_string(),
        description: endpoint.description.to_string(),
        enabled: endpoint.enabled,
        tenant: endpoint.tenant.to_string(),
        events: endpoint
            .events
            .iter()
            .map(|pattern| pattern.as_str().to_owned())
            .collect(),
        method: request.method.to_string(),
        url: request.url_masked.to_string(),
        headers: request
            .headers
            .iter()
            .map(|(name, _)| (name.to_string(), MASK.to_owned()))
            .collect(),
        timeout: duration_text(request.timeout),
        connect_timeout: duration_text(request.connect_timeout),
        max_response: bytes_text(request.response_bytes_max as u64),
        tls_verify: request.tls_verify,
        sign: endpoint.sign.iter().map(sign_text).collect(),
        success_status: endpoint.response.success_status.clone(),
        retry_schedule: schedule_text(&retry.schedule),
        retry_jitter: retry.jitter,
        retry_max_attempts: retry.max_attempts,
        retry_max_age: duration_text(retry.max_age),
        retry_on: retry.retry_on.iter().map(retry_match_text).collect(),
        dont_retry_on: retry.dont_retry_on.iter().map(retry_match_text).collect(),
        breaker_failures: breaker.failures,
        breaker_open: duration_text(breaker.open),
        breaker_max_open: duration_text(breaker.max_open),
        concurrency_min: endpoint.concurrency.min,
        concurrency_max: endpoint.concurrency.max,
        best_effort: endpoint.best_effort,
    }
}

fn sign_text(sign: &SignPolicy) -> String {
    match sign {
        SignPolicy::Standard { keys } => {
            format!(
                "standard ({} key{})",
                keys.len(),
                if keys.len() == 1 { "" } else { "s" }
            )
        }
    }
}

fn schedule_text(schedule: &Schedule) -> String {
    match schedule {
        Schedule::Listed(delays) => {
            let delays: Vec<String> = delays.iter().copied().map(duration_text).collect();
            delays.join(", ")
        }
        Schedule::Exponential { initial, factor, max } => format!(
            "from {} times {factor} up to {}",
            duration_text(*initial),
            duration_text(*max)
        ),
    }
}

fn retry_match_text(entry: &RetryMatch) -> String {
    match entry {
        RetryMatch::Status(status) => status.to_string(),
        RetryMatch::StatusClass(hundred) => format!("{hundred}xx"),
        RetryMatch::Class(class) => class.name().to_owned(),
    }
}
