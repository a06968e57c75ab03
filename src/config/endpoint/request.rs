//! Where requests go and what they carry: method, URL, headers, and the bounds of one try.

use std::time::Duration;

use super::tls::tls;
use crate::config::NetworkConfig;
use crate::config::raw::{Table, Value};
use crate::config::secrets::Resolved;
use crate::config::url;
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::RequestPolicy;
use crate::domain::secret::Secret;

const RESPONSE_BYTES_DEFAULT: usize = 64 << 10;

const RESPONSE_BYTES_MAX: u64 = 64 << 20;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

const METHODS: &[(&str, &http::Method)] = &[
    ("GET", &http::Method::GET),
    ("POST", &http::Method::POST),
    ("PUT", &http::Method::PUT),
    ("PATCH", &http::Method::PATCH),
    ("DELETE", &http::Method::DELETE),
];

pub(super) fn request(table: &Table<'_>, network: &NetworkConfig) -> RequestPolicy {
    let timeout = |key, default| table.read(key, values::some_duration).unwrap_or(default);
    let (url, url_masked) = target(table, network).unwrap_or((Secret::new(""), String::new()));
    RequestPolicy {
        method: table.read("method", method).unwrap_or(http::Method::POST),
        url,
        url_masked: url_masked.into(),
        headers: headers(table),
        timeout: timeout("timeout", TIMEOUT_DEFAULT),
        connect_timeout: timeout("connect_timeout", CONNECT_TIMEOUT_DEFAULT),
        response_bytes_max: table
            .read("max_response", values::size(1..=RESPONSE_BYTES_MAX))
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(RESPONSE_BYTES_DEFAULT),
        tls: tls(&table.table("tls")),
    }
}

fn method(value: &Value<'_>) -> Read<http::Method> {
    value.untemplated()?;
    values::choice(METHODS)(value).cloned()
}

/// The URL and its masked form; refused without encryption unless that is wanted (D7).
fn target(table: &Table<'_>, network: &NetworkConfig) -> Option<(Secret, String)> {
    let allow_http = table.read("allow_http", Value::flag).unwrap_or(false);
    table.read("url", |value| {
        let written = value.untemplated()?;
        let url = url::parse(&written.text).ok_or_else(|| {
            Wrong::whole(
                "the value is not an absolute http or https URL",
                "write it like https://example.com/hook",
            )
        })?;
        if url.scheme() == "http" && network.https_only && !allow_http && !url::is_loopback(&url) {
            return Err(Wrong::whole(
                "http:// sends events and signatures readable for everybody on the way",
                "write https://, or allow_http = true for this endpoint",
            ));
        }
        Ok((Secret::new(&written.text), url::masked(&url, &written)))
    })
}

/// Headers in the order written; a name of `[defaults]` gives way to the endpoint's own.
fn headers(table: &Table<'_>) -> Vec<(http::HeaderName, Secret)> {
    let mut headers: Vec<(http::HeaderName, Secret)> = Vec::new();
    for (place, name, value) in table.entries("headers") {
        let text = value.read(header_value);
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
            headers.extend(text.map(|text| (name, Secret::new(&text.text))));
        }
    }
    headers
}

/// Headers that describe the connection or the length of the body: a wrong one would break the framing.
const RESERVED_HEADERS: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
];

fn header_value(value: &Value<'_>) -> Read<Resolved> {
    let text = value.untemplated()?;
    match http::HeaderValue::from_str(&text.text) {
        Ok(_) => Ok(text),
        Err(_) => Err(Wrong::whole(
            "the value is not a header's: it has line breaks or control characters",
            "",
        )),
    }
}
