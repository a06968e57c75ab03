//! One `[[endpoint]]` over `[defaults]`, from written to checked. What an endpoint means is `domain`'s
//! business; here stand the defaults, the bounds and the rules that need more than one key.

use std::fs;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::NetworkConfig;
use super::keys;
use super::raw::{Table, Value};
use super::secrets::Resolved;
use super::source::Place;
use super::url;
use super::values::{self, Read, Wrong};
use crate::domain::backoff::{RetryPolicy, Schedule};
use crate::domain::endpoint::{
    BreakerPolicy, Concurrency, Endpoint, RequestPolicy, ResponsePolicy, RetryMatch, SignPolicy,
};
use crate::domain::outcome::ErrorClass;
use crate::domain::route::TypePattern;
use crate::domain::secret::Secret;

const NAME_BYTES_MAX: usize = 63;
const CONCURRENCY_MAX: u32 = 1024;
const CONCURRENCY_DEFAULT: Concurrency = Concurrency { min: 1, max: 32 };
const RESPONSE_BYTES_DEFAULT: usize = 64 << 10;
const RESPONSE_BYTES_MAX: u64 = 64 << 20;
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
const INITIAL_DEFAULT: Duration = Duration::from_secs(1);
const MAX_DEFAULT: Duration = Duration::from_secs(3600);
const FACTOR_DEFAULT: f64 = 2.0;

const METHODS: &[(&str, &http::Method)] = &[
    ("GET", &http::Method::GET),
    ("POST", &http::Method::POST),
    ("PUT", &http::Method::PUT),
    ("PATCH", &http::Method::PATCH),
    ("DELETE", &http::Method::DELETE),
];

/// Schemes of `[[endpoint.sign]]` that are named in the contract but not built yet.
const SCHEMES_NOT_YET: &[&str] = &[
    "standard-ed25519",
    "github",
    "stripe",
    "shopify",
    "slack",
    "timestamped",
    "canonical",
    "webhook",
    "custom",
];

/// An endpoint and where it was written, for the rules between endpoints.
pub(super) struct Written {
    /// The endpoint; not usable as long as there are problems.
    pub endpoint: Endpoint,
    /// Where its name stands, or the endpoint itself when it has none.
    pub place: Option<Place>,
}

/// Whether `name` may name an endpoint: `[a-z0-9-]+`, 1 to 63 bytes.
pub(super) fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Reads `[defaults]` for its problems only: it is checked even when no endpoint uses it.
pub(super) fn check_defaults(table: &Table<'_>, network: &NetworkConfig) {
    if let Some(name) = table.value("name") {
        name.reject(&Wrong::whole(
            "a name belongs to one endpoint",
            "move it into the [[endpoint]]",
        ));
    }
    policies(table, network);
}

/// One endpoint. What is missing or wrong is noted and stands in as its default.
pub(super) fn endpoint(table: &Table<'_>, network: &NetworkConfig) -> Written {
    for key in ["name", "url"] {
        let replaced_by_other = key == "url" && (table.has("urls") || table.has("use"));
        if !table.has(key) && !replaced_by_other {
            table.missing(key);
        }
    }
    let name = table.value("name");
    let place = name
        .as_ref()
        .map(|value| value.place.clone())
        .or_else(|| table.place().cloned());
    let mut endpoint = policies(table, network);
    endpoint.name = name
        .and_then(|value| value.read(endpoint_name))
        .unwrap_or_default()
        .into();
    Written { endpoint, place }
}

/// Everything of an endpoint but its name.
fn policies(table: &Table<'_>, network: &NetworkConfig) -> Endpoint {
    let text = |key| table.read(key, values::text).unwrap_or_default().into_boxed_str();
    Endpoint {
        name: "".into(),
        description: text("description"),
        enabled: table.read("enabled", Value::flag).unwrap_or(true),
        tenant: text("tenant"),
        events: events(table),
        request: request(table, network),
        sign: table.tables("sign").iter().filter_map(sign).collect(),
        response: ResponsePolicy {
            success_status: success_status(&table.table("response")),
        },
        retry: retry(&table.table("retry")),
        breaker: breaker(&table.table("breaker")),
        concurrency: table
            .value("concurrency")
            .map_or(CONCURRENCY_DEFAULT, |value| concurrency(&value)),
        best_effort: table.read("best_effort", Value::flag).unwrap_or(false),
    }
}

fn endpoint_name(value: &Value<'_>) -> Read<String> {
    let name = values::text(value)?;
    if is_name(&name) {
        return Ok(name);
    }
    Err(Wrong::new(
        "is not a name",
        format!("use a-z, 0-9 and -, at most {NAME_BYTES_MAX} of them; it names the queue"),
    ))
}

fn events(table: &Table<'_>) -> Vec<TypePattern> {
    let all = || TypePattern::parse("**").into_iter().collect();
    let Some(list) = table.value("events") else {
        return all();
    };
    let help = "write it like [\"contact.*\"], or [\"**\"] for all";
    let items = list.some_items(help, "no event type is listed");
    items.iter().filter_map(|item| item.read(event_pattern)).collect()
}

fn event_pattern(value: &Value<'_>) -> Read<TypePattern> {
    let resolved = value.resolved()?;
    TypePattern::parse(&resolved.text).map_err(|says| {
        // The parser quotes the pattern, which must not happen to what came from a reference.
        if resolved.has_reference {
            Wrong::new("gives no event type pattern", "")
        } else {
            Wrong::whole(says, "")
        }
    })
}

fn request(table: &Table<'_>, network: &NetworkConfig) -> RequestPolicy {
    let tls = table.table("tls");
    let timeout = |key, default| table.read(key, values::some_duration).unwrap_or(default);
    let (url, url_masked) = target(table, network).unwrap_or((Secret::new(""), String::new()));
    let tls_verify = tls.read("verify", Value::flag).unwrap_or(true);
    if let (false, Some(value)) = (tls_verify, tls.value("verify")) {
        value.warn(&Wrong::whole(
            "the server's certificate is not verified: anybody on the way can read and answer the requests",
            "name the server's own authority in ca instead",
        ));
    }
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
        tls_verify,
        tls_ca_pem: tls.read("ca", ca_pem).unwrap_or_default().into(),
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

fn ca_pem(value: &Value<'_>) -> Read<String> {
    if values::text(value)?.is_empty() {
        return Ok(String::new());
    }
    let path = values::path(value)?;
    let pem = fs::read_to_string(&path)
        .map_err(|error| Wrong::new(format!("can't be read: {}", error.kind()), "name a PEM file"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(list) if !list.is_empty() => Ok(pem),
        _ => Err(Wrong::new(
            "holds no certificate",
            "it has to be PEM: -----BEGIN CERTIFICATE-----",
        )),
    }
}

fn sign(table: &Table<'_>) -> Option<SignPolicy> {
    let scheme_works = table.read("scheme", scheme).is_some() || !table.has("scheme");
    let Some(list) = table.value("secrets") else {
        table.missing("secrets");
        return None;
    };
    let items = list.some_items(
        "write it like secrets = [\"${env:CRM_SECRET}\"]",
        "no secret is listed",
    );
    if !scheme_works {
        // Other schemes have secrets of another form.
        return None;
    }
    let keys = items.iter().filter_map(|item| item.read(signing_key)).collect();
    Some(SignPolicy::Standard { keys })
}

fn scheme(value: &Value<'_>) -> Read<()> {
    match &*values::text(value)? {
        "standard" => Ok(()),
        known if SCHEMES_NOT_YET.contains(&known) => Err(Wrong::new(
            "is not supported by this version of posthaste yet",
            "write \"standard\"",
        )),
        _ => Err(Wrong::new("is not known here", "write \"standard\"")),
    }
}

fn signing_key(value: &Value<'_>) -> Read<crate::domain::endpoint::SigningKey> {
    let text = value.resolved()?.text;
    crate::delivery::sign::parse_secret(&text).map_err(|says| Wrong::whole(says, ""))
}

fn success_status(table: &Table<'_>) -> Vec<u16> {
    let items = table
        .value("success_status")
        .and_then(|list| list.items("write it like [200, 201]"));
    let status = |item: &Value<'_>| {
        item.read(values::count(100..=599))
            .and_then(|status| u16::try_from(status).ok())
    };
    items.unwrap_or_default().iter().filter_map(status).collect()
}

fn retry(table: &Table<'_>) -> RetryPolicy {
    let default = default_retry();
    let list = |key, default| table.value(key).map_or(default, |value| retry_matches(&value));
    RetryPolicy {
        schedule: schedule(table).unwrap_or(default.schedule),
        jitter: table
            .read("jitter", values::number(0.0..=1.0))
            .unwrap_or(default.jitter),
        max_attempts: table
            .read("max_attempts", values::count(1..=1_000_000))
            .unwrap_or(default.max_attempts),
        max_age: table
            .read("max_age", values::some_duration)
            .unwrap_or(default.max_age),
        retry_on: list("retry_on", default.retry_on),
        dont_retry_on: list("dont_retry_on", default.dont_retry_on),
        max_retry_after: table
            .read("max_retry_after", values::duration)
            .unwrap_or(default.max_retry_after),
    }
}

/// The policy of an endpoint that says nothing: the schedule, jitter and statuses that the Standard
/// Webhooks specification 1.0.0 recommends ("Deliverability and reliability").
#[must_use]
pub(super) fn default_retry() -> RetryPolicy {
    let seconds = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
    let statuses = [408, 425, 429].map(RetryMatch::Status);
    let classes = [
        ErrorClass::Connect,
        ErrorClass::Timeout,
        ErrorClass::Tls,
        ErrorClass::Dns,
        ErrorClass::Reset,
        ErrorClass::InvalidResponse,
    ];
    let hundreds = [RetryMatch::StatusClass(5)];
    RetryPolicy {
        schedule: Schedule::Listed(seconds.map(Duration::from_secs).to_vec()),
        jitter: 0.2,
        max_attempts: 10,
        max_age: Duration::from_secs(4 * 86_400),
        retry_on: hundreds
            .into_iter()
            .chain(statuses)
            .chain(classes.map(RetryMatch::Class))
            .collect(),
        dont_retry_on: Vec::new(),
        max_retry_after: Duration::from_secs(86_400),
    }
}

/// The delays, in one of their three forms. The layer that names a form decides alone: an endpoint's
/// `delay` is not mixed with a `schedule` of `[defaults]`.
fn schedule(table: &Table<'_>) -> Option<Schedule> {
    let table = table.layer_with_any(&["schedule", "delay", "initial", "factor", "max"]);
    let exponential = ["initial", "factor", "max"];
    let forms = ["schedule", "delay"]
        .into_iter()
        .filter(|key| table.has(key))
        .count()
        + usize::from(exponential.iter().any(|key| table.has(key)));
    let initial = table
        .read("initial", values::some_duration)
        .unwrap_or(INITIAL_DEFAULT);
    let factor = table
        .read("factor", values::number(1.0..=f64::INFINITY))
        .unwrap_or(FACTOR_DEFAULT);
    let max = table
        .read("max", values::some_duration)
        .unwrap_or(MAX_DEFAULT.max(initial));
    let listed = table.value("schedule").map(|value| delays(&value));
    let fixed = table.read("delay", values::some_duration);
    if forms > 1 {
        table.reject_key(
            &["schedule", "delay", "initial", "factor", "max"],
            &Wrong::whole(
                "the delays are given in more than one form",
                "keep schedule, or delay, or initial, factor and max",
            ),
        );
    }
    if max < initial {
        let help = "let max be at least initial";
        table.reject_key(&["max"], &Wrong::new("is shorter than initial", help));
    }
    let is_exponential = exponential.iter().any(|key| table.has(key));
    listed
        .map(Schedule::Listed)
        .or_else(|| fixed.map(|delay| Schedule::Listed(vec![delay])))
        .or_else(|| is_exponential.then_some(Schedule::Exponential { initial, factor, max }))
}

fn delays(list: &Value<'_>) -> Vec<Duration> {
    let items = list.some_items("write it like [\"5s\", \"5m\", \"1h\"]", "the schedule is empty");
    items
        .iter()
        .filter_map(|item| item.read(values::duration))
        .collect()
}

fn retry_matches(list: &Value<'_>) -> Vec<RetryMatch> {
    let items = list
        .items("write it like [\"5xx\", 429, \"timeout\"]")
        .unwrap_or_default();
    items.iter().filter_map(|item| item.read(retry_match)).collect()
}

fn retry_match(value: &Value<'_>) -> Read<RetryMatch> {
    if !value.is_text() {
        let status = values::count(100..=599)(value)?;
        return Ok(RetryMatch::Status(u16::try_from(status).unwrap_or(u16::MAX)));
    }
    let text = values::text(value)?;
    let hundred = text
        .strip_suffix("xx")
        .and_then(|digit| digit.parse().ok())
        .filter(|h| (1..=5).contains(h));
    hundred
        .map(RetryMatch::StatusClass)
        .or_else(|| ErrorClass::named(&text).map(RetryMatch::Class))
        .ok_or_else(|| {
            let classes: Vec<_> = ErrorClass::ALL.iter().map(|(_, name)| *name).collect();
            Wrong::new(
                "is not known here",
                format!("write a status, 4xx, 5xx, or one of {}", classes.join(" ")),
            )
        })
}

fn breaker(table: &Table<'_>) -> BreakerPolicy {
    let default = default_breaker();
    let count = |key, default| table.read(key, values::count(1..=1_000_000)).unwrap_or(default);
    let duration = |key, default| table.read(key, values::some_duration).unwrap_or(default);
    let open = duration("open", default.open);
    let max_open = duration("max_open", default.max_open.max(open));
    if max_open < open {
        table.reject_key(
            &["max_open", "open"],
            &Wrong::new("is shorter than open", "let max_open be at least open"),
        );
    }
    BreakerPolicy {
        failures: count("failures", default.failures),
        rate: table
            .read("rate", values::number(0.0..=1.0))
            .unwrap_or(default.rate),
        window: duration("window", default.window),
        min_requests: count("min_requests", default.min_requests),
        open,
        max_open,
    }
}

/// The breaker of an endpoint that says nothing.
#[must_use]
pub(super) fn default_breaker() -> BreakerPolicy {
    BreakerPolicy {
        failures: 5,
        rate: 0.5,
        window: Duration::from_secs(60),
        min_requests: 20,
        open: Duration::from_secs(30),
        max_open: Duration::from_secs(600),
    }
}

/// A number fixes the limit; a table gives the bounds between which it adapts.
fn concurrency(value: &Value<'_>) -> Concurrency {
    let limit = values::count(1..=CONCURRENCY_MAX);
    let Some(table) = value.as_table(&keys::CONCURRENCY) else {
        let fixed = value.read(limit).unwrap_or(CONCURRENCY_DEFAULT.max);
        return Concurrency {
            min: fixed,
            max: fixed,
        };
    };
    let min = table.read("min", &limit).unwrap_or(CONCURRENCY_DEFAULT.min);
    let max = table
        .read("max", &limit)
        .unwrap_or(CONCURRENCY_DEFAULT.max.max(min));
    if min > max {
        table.reject_key(
            &["min", "max"],
            &Wrong::whole("min is above max", "let min be at most max"),
        );
    }
    Concurrency { min, max }
}
