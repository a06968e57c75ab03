//! The configuration in force as the operator would write it, secrets masked: what the control API shows.
//! Never sees the files; what it shows is what the daemon acts on.

mod credentials;
mod request;
mod response;
mod step;

use serde_json::{Map, Value, json};

use super::values::{show_duration, show_size};
use super::{Config, FreeMin, LogFormat, NetworkConfig};
use crate::domain::access::AllowRule;
use crate::domain::backoff::{RetryPolicy, Schedule};
use crate::domain::endpoint::{
    BatchPolicy, BatchShape, Concurrency, Endpoint, OrderPolicy, RetryMatch, TlsPolicy,
};
use crate::domain::names::name_of;
use crate::domain::network::AddressRange;
use crate::domain::outcome::Detail;

/// `config` under the names of the configuration file, durations and sizes as strings, defaults filled
/// in. Signing secrets, header values, passwords and query values are `***`.
#[must_use]
pub fn effective(config: &Config) -> Value {
    let socket = |path: &std::path::Path, mode: u32, group: &str| json!({ "socket": path, "mode": format!("{mode:04o}"), "group": group });
    let mut ingest = socket(&config.ingest.socket, config.ingest.mode, &config.ingest.group);
    ingest["max_event"] = show_size(config.ingest.event_bytes_max as u64).into();
    ingest["max_batch"] = show_size(config.ingest.batch_bytes_max as u64).into();
    ingest["max_connections"] = config.ingest.connections_max.into();
    ingest["allow"] = config.ingest.allow.iter().map(allow_rule).collect();
    let mut control = socket(&config.control.socket, config.control.mode, &config.control.group);
    control["operators"] = config.control.operators.iter().map(ToString::to_string).collect();
    control["readers"] = config.control.readers.iter().map(ToString::to_string).collect();
    control["listen"] = config
        .control
        .listen
        .map_or(String::new(), |address| address.to_string())
        .into();
    control["token"] = config.control.token.as_ref().map_or("", |_| "***").into();
    let spool = config
        .ingest
        .spool
        .as_ref()
        .map(|path| path.display().to_string());
    ingest["spool"] = spool.unwrap_or_default().into();
    json!({
        "store": store(config),
        "ingest": ingest,
        "control": control,
        "log": {
            "format": name_of(LogFormat::NAMES, &config.log.format),
            "level": config.log.level,
            "payloads": config.log.payloads,
        },
        "limits": {
            "in_flight": config.limits.in_flight_max,
            "batch_memory": show_size(config.limits.batch_bytes_max),
            "shutdown": show_duration(config.limits.shutdown),
        },
        "alerts": {
            "response_time_p95": show_duration(config.alerts.response_time_p95),
            "error_rate": config.alerts.error_rate,
            "auth_failures": config.alerts.auth_failures,
            "failing_for": show_duration(config.alerts.failing_for),
            "dead_letters": config.alerts.dead_letters,
        },
        "traces": {
            "endpoint": config.traces.endpoint.as_ref().map_or("", |endpoint| &endpoint.shown),
            "sample": config.traces.sample,
            "service_name": config.traces.service_name,
            "headers": config.traces.headers.iter().map(|(name, _)| (name.to_string(), "***".into())).collect::<Map<_, _>>(),
        },
        "network": network(&config.network),
        "vars": config.settings.vars_json(),
        "secrets": config.settings.secrets().names().map(|name| (name.to_owned(), "***".into())).collect::<Map<_, _>>(),
        "endpoint": config.endpoints.iter().map(|e| endpoint(e)).collect::<Vec<_>>(),
    })
}

fn allow_rule(rule: &AllowRule) -> Value {
    let mut shown = json!({
        "types": rule.types.iter().map(|pattern| pattern.as_str()).collect::<Vec<_>>(),
        "rate": rule.rate.map_or(String::new(), |rate| rate.to_string()),
    });
    if let Some((key, value)) = rule.who.written() {
        shown[key] = match value.parse::<u32>() {
            Ok(number) if matches!(key, "uid" | "gid") => number.into(),
            _ => value.into(),
        };
    }
    shown
}

fn store(config: &Config) -> Value {
    json!({
        "engine": "sled",
        "path": config.store.path,
        "max_size": show_size(config.store.size_bytes_max),
        "min_free": match config.store.free_min {
            FreeMin::Percent(share) => format!("{share}%"),
            FreeMin::Bytes(bytes) => show_size(bytes),
        },
        "dedup_window": show_duration(config.store.dedup_window),
        "dedup_max": config.store.dedup_ids_max,
        "attempts_keep": show_duration(config.store.attempts_keep),
        "attempts_max_size": show_size(config.store.attempts_bytes_max),
        "attempts_detail": name_of(Detail::NAMES, &config.store.attempts_detail),
        "dead_keep": show_duration(config.store.dead_keep),
    })
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let request = &endpoint.request;
    let Concurrency { min, max } = endpoint.concurrency;
    let mut shown = json!({
        "name": endpoint.name,
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "tenant": endpoint.tenant,
        "events": endpoint.events.iter().map(|pattern| pattern.as_str()).collect::<Vec<_>>(),
        "filter": endpoint.selection.filter.as_ref().map_or_else(|| json!({}), |filter| filter.source().clone()),
        "when": endpoint.selection.when.as_ref().map_or("", |when| when.source()),
        "skip_reason": endpoint.selection.skip_reason.as_ref().map_or("", |reason| reason.source()),
        "bind": endpoint.bind,
        "method": request.method.as_ref().map_or("POST", |method| method.source()),
        "url": request.shown_address(),
        "urls": request::several(&request.addresses),
        "balance": request::balance(request.balance),
        "fallback_urls": request.fallbacks.iter().map(|address| &*address.shown).collect::<Vec<_>>(),
        "fallback_on": request.fallback_on.iter().map(retry_match).collect::<Vec<_>>(),
        "query": request::masked(request.query.iter().map(|(name, template)| (&**name, template))),
        "headers": request::masked(request.headers.iter().map(|(name, template)| (name.as_str(), template))),
        "route": request.routes.iter().map(request::route).collect::<Vec<_>>(),
        "body": request::body(&request.body),
        "timeout": show_duration(request.timeout),
        "connect_timeout": show_duration(request.connect_timeout),
        "max_response": show_size(request.response_bytes_max as u64),
        "concurrency": if min == max { json!(max) } else { json!({ "min": min, "max": max }) },
        "rate": endpoint.rate.map_or(String::new(), |rate| rate.to_string()),
        "order": order(endpoint.order.policy),
        "best_effort": endpoint.best_effort,
        "batch": batch(endpoint.batch.as_ref()),
        "tls": tls(&request.tls),
        "follow_redirects": request.redirects_max,
        "proxy": request.proxy.as_ref().map_or(String::new(), |url| super::url::masked_proxy(url.expose())),
        "auth": credentials::auth(&endpoint.auth),
        "sign": endpoint.sign.iter().map(credentials::sign).collect::<Vec<_>>(),
        "response": response::response(&endpoint.response),
        "retry": retry(&endpoint.retry),
        "breaker": {
            "failures": endpoint.breaker.failures,
            "rate": endpoint.breaker.rate,
            "window": show_duration(endpoint.breaker.window),
            "min_requests": endpoint.breaker.min_requests,
            "open": show_duration(endpoint.breaker.open),
            "max_open": show_duration(endpoint.breaker.max_open),
        },
    });
    shown["order_key"] = endpoint.order.key.as_ref().map_or("", |key| key.source()).into();
    shown["step"] = endpoint.steps.iter().map(step::step).collect();
    shown["test"] = endpoint.cases.iter().map(step::case).collect();
    shown["use"] = (*endpoint.integration.name).into();
    shown["with"] = endpoint.integration.shown.clone().into();
    shown
}

fn order(policy: OrderPolicy) -> &'static str {
    match policy {
        OrderPolicy::None => "none",
        OrderPolicy::Endpoint => "endpoint",
        OrderPolicy::Key => "key",
    }
}

fn batch(policy: Option<&BatchPolicy>) -> Value {
    let Some(policy) = policy else {
        return json!({ "max_events": 1 });
    };
    let mut shown = json!({
        "max_events": policy.events_max,
        "max_bytes": show_size(policy.bytes_max as u64),
        "max_wait": show_duration(policy.wait_max),
    });
    match &policy.shape {
        BatchShape::Array => shown["shape"] = "array".into(),
        BatchShape::Ndjson => shown["shape"] = "ndjson".into(),
        BatchShape::Template => shown["shape"] = "template".into(),
        BatchShape::Wrapped(field) => {
            shown["shape"] = "wrapped".into();
            shown["wrapped_in"] = (**field).into();
        }
    }
    if let Some(items) = &policy.items {
        shown["items"] = items.list.source().into();
        shown["item_id"] = items.id.source().into();
        shown["item_success"] = items.success.source().into();
    }
    shown
}

fn network(config: &NetworkConfig) -> Value {
    let names = |ranges: &[AddressRange]| {
        ranges
            .iter()
            .map(|range| range.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    json!({
        "https_only": config.https_only,
        "deny": names(&config.policy.addresses.deny),
        "allow": names(&config.policy.addresses.allow),
        "dns_cache": show_duration(config.policy.dns_cache),
    })
}

fn tls(policy: &TlsPolicy) -> Value {
    let masked = |is_there: bool| if is_there { "***" } else { "" };
    json!({
        "verify": policy.verify,
        "ca": masked(!policy.ca_pem.is_empty()),
        "client_cert": masked(policy.identity.is_some()),
        "client_key": masked(policy.identity.is_some()),
    })
}

fn retry(policy: &RetryPolicy) -> Value {
    let list = |entries: &[RetryMatch]| entries.iter().map(retry_match).collect::<Vec<_>>();
    let mut shown = json!({
        "jitter": policy.jitter,
        "max_attempts": policy.max_attempts,
        "max_age": show_duration(policy.max_age),
        "retry_on": list(&policy.retry_on),
        "dont_retry_on": list(&policy.dont_retry_on),
        "max_retry_after": show_duration(policy.max_retry_after),
    });
    match &policy.schedule {
        Schedule::Listed(delays) => {
            shown["schedule"] = delays.iter().map(|delay| show_duration(*delay)).collect();
        }
        Schedule::Exponential { initial, factor, max } => {
            shown["initial"] = show_duration(*initial).into();
            shown["factor"] = (*factor).into();
            shown["max"] = show_duration(*max).into();
        }
    }
    shown
}

fn retry_match(entry: &RetryMatch) -> Value {
    match entry {
        RetryMatch::Status(status) => (*status).into(),
        RetryMatch::StatusClass(hundred) => format!("{hundred}xx").into(),
        RetryMatch::Class(class) => class.name().into(),
    }
}
