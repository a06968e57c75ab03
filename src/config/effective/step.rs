//! Steps as they are in force, masked.

use serde_json::{Map, Value, json};

use super::{credentials, request, response, retry_match, show_duration, show_size, tls};
use crate::domain::endpoint::{CannedAnswer, OnError, SavedCase, Stage, Step};
use crate::domain::names::name_of;

/// One `[[endpoint.step]]`
pub(super) fn step(step: &Step) -> Value {
    let of = &step.request;
    let mut shown = json!({
        "name": step.name,
        "stage": name_of(Stage::NAMES, &step.stage),
        "when": step.when.as_ref().map_or("", |when| when.source()),
        "after": step.after,
        "method": of.method.as_ref().map_or("POST", |method| method.source()),
        "url": of.shown_address(),
        "urls": request::several(&of.addresses),
        "balance": request::balance(of.balance),
        "fallback_urls": of.fallbacks.iter().map(|address| &*address.shown).collect::<Vec<_>>(),
        "fallback_on": of.fallback_on.iter().map(retry_match).collect::<Vec<_>>(),
        "query": request::masked(of.query.iter().map(|(name, template)| (&**name, template))),
        "headers": request::masked(of.headers.iter().map(|(name, template)| (name.as_str(), template))),
        "body": request::body(&of.body),
        "timeout": show_duration(of.timeout),
        "connect_timeout": show_duration(of.connect_timeout),
        "max_response": show_size(of.response_bytes_max as u64),
        "follow_redirects": of.redirects_max,
        "proxy": of.proxy.as_ref().map_or(String::new(), |url| crate::config::url::masked_proxy(url.expose())),
        "tls": tls(&of.tls),
        "auth": credentials::auth(&step.auth),
        "sign": step.sign.iter().map(credentials::sign).collect::<Vec<_>>(),
        "response": response::response(&step.response),
        "retry": step.retries,
        "store": response::named(&step.store),
        "on_error": name_of(OnError::NAMES, &step.on_error),
        "default": step.default.clone().unwrap_or_default(),
        "flag": step.flag,
    });
    if let Some(cache) = &step.cache {
        shown["cache"] = json!({
            "key": cache.key.source(),
            "ttl": show_duration(cache.ttl),
            "max_age": show_duration(cache.max_age),
        });
    }
    shown
}

/// One `[[endpoint.test]]`
pub(super) fn case(case: &SavedCase) -> Value {
    let answer = |answer: &CannedAnswer| {
        let body = match answer.is_json {
            true => serde_json::from_str(&answer.body).unwrap_or_default(),
            false => Value::from(&*answer.body),
        };
        (
            answer.step.to_string(),
            json!({ "status": answer.status, "body": body }),
        )
    };
    json!({
        "name": case.name,
        "event": case.event,
        "expect": case.expect.source(),
        "steps": case.steps.iter().map(answer).collect::<Map<_, _>>(),
    })
}
