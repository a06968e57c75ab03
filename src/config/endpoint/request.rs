//! What requests look like: method, query, headers, routes, and the bounds of one try.

use std::time::Duration;

use super::address::{self, Reader};
use super::body;
use super::tls::tls;
use crate::config::NetworkConfig;
use crate::config::language::{self, Names};
use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::{Balance, RequestPolicy, RetryMatch, Route};
use crate::domain::outcome::ErrorClass;
use crate::template::{Target, Template};

const RESPONSE_BYTES_DEFAULT: usize = 64 << 10;

const RESPONSE_BYTES_MAX: u64 = 64 << 20;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

const METHODS: &[(&str, ())] = &[
    ("GET", ()),
    ("POST", ()),
    ("PUT", ()),
    ("PATCH", ()),
    ("DELETE", ()),
];

const BALANCES: &[(&str, Balance)] = &[
    ("round_robin", Balance::RoundRobin),
    ("random", Balance::Random),
    ("healthy", Balance::Healthy),
];

/// Headers that describe the connection or the length of the body: a wrong one would break the framing.
const RESERVED_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
];

/// The request that `table` describes, whose templates see `names`.
pub(super) fn request(table: &Table<'_>, network: &NetworkConfig, names: &Names<'_>) -> RequestPolicy {
    let allows_plaintext = address::allows_plaintext(table, network);
    let reader = Reader {
        names,
        allows_plaintext,
    };
    let timeout = |key, default| table.read(key, values::some_duration).unwrap_or(default);
    RequestPolicy {
        method: table
            .read("method", |value| method(value, names))
            .filter(|method| method.fixed() != Some("POST")),
        addresses: reader.addresses(table),
        balance: table
            .read("balance", values::choice(BALANCES))
            .unwrap_or_default(),
        fallbacks: reader.listed(table, "fallback_urls"),
        fallback_on: table
            .value("fallback_on")
            .map_or_else(default_fallback_on, |list| super::retry::retry_matches(&list)),
        allows_plaintext,
        query: query(table, names),
        headers: headers(table, names),
        routes: table
            .tables("route")
            .iter()
            .filter_map(|table| route(table, reader))
            .collect(),
        body: body::body(&table.table("body"), names),
        timeout: timeout("timeout", TIMEOUT_DEFAULT),
        connect_timeout: timeout("connect_timeout", CONNECT_TIMEOUT_DEFAULT),
        response_bytes_max: table
            .read("max_response", values::size(1..=RESPONSE_BYTES_MAX))
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(RESPONSE_BYTES_DEFAULT),
        tls: tls(&table.table("tls")),
        redirects_max: super::network::redirects(table),
        proxy: super::network::proxy(table),
        network: network.policy.clone(),
    }
}

/// What makes an attempt go on to a fallback when the endpoint doesn't say.
fn default_fallback_on() -> Vec<RetryMatch> {
    let classes = [ErrorClass::Connect, ErrorClass::Timeout].map(RetryMatch::Class);
    let statuses = [502, 503, 504].map(RetryMatch::Status);
    classes.into_iter().chain(statuses).collect()
}

fn method(value: &Value<'_>, names: &Names<'_>) -> Read<Template> {
    let template = language::template(Target::Text, names)(value)?;
    if template.fixed().is_some() {
        values::choice(METHODS)(value)?;
    }
    Ok(template)
}

/// Query parameters in the order written; a name of `[defaults]` gives way to the endpoint's own.
fn query(table: &Table<'_>, names: &Names<'_>) -> Vec<(Box<str>, Template)> {
    let mut query: Vec<(Box<str>, Template)> = Vec::new();
    for (_, name, value) in table.entries("query") {
        let template = value.read(language::template(Target::Text, names));
        if !query.iter().any(|(known, _)| **known == *name) {
            query.extend(template.map(|template| (name.into(), template)));
        }
    }
    query
}

/// Headers in the order written; a name of `[defaults]` gives way to the endpoint's own.
fn headers(table: &Table<'_>, names: &Names<'_>) -> Vec<(http::HeaderName, Template)> {
    let mut headers: Vec<(http::HeaderName, Template)> = Vec::new();
    for (place, name, value) in table.entries("headers") {
        let template = value.read(|value| header_value(value, names));
        let Ok(name) = http::HeaderName::from_bytes(name.as_bytes()) else {
            value.reject_at(
                &place,
                &Wrong::whole("the name is not a header's", "letters, digits and - only"),
            );
            continue;
        };
        if RESERVED_HEADERS.contains(&name.as_str()) {
            let help = "leave it away, posthaste sets it from the request itself";
            value.reject_at(
                &place,
                &Wrong::whole(format!("the header {name} can't be set"), help),
            );
        }
        if !headers.iter().any(|(known, _)| *known == name) {
            headers.extend(template.map(|template| (name, template)));
        }
    }
    headers
}

fn header_value(value: &Value<'_>, names: &Names<'_>) -> Read<Template> {
    let template = language::template(Target::Header, names)(value)?;
    match template.fixed().map(http::HeaderValue::from_str) {
        Some(Err(_)) => Err(Wrong::whole(
            "the value is not a header's: it has line breaks or control characters",
            "",
        )),
        _ => Ok(template),
    }
}

/// One `[[endpoint.route]]`.
fn route(table: &Table<'_>, reader: Reader<'_>) -> Option<Route> {
    if !table.has("when") {
        table.missing("when");
    }
    let policy = Route {
        address: table.read("url", |value| reader.address(value)),
        timeout: table.read("timeout", values::some_duration),
        method: table.read("method", |value| method(value, reader.names)),
        headers: headers(table, reader.names),
        when: table.read("when", language::expression(reader.names))?,
    };
    Some(policy)
}
