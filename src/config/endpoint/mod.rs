//! One `[[endpoint]]` over `[defaults]`, from written to checked. What an endpoint means is `domain`'s
//! business; here stand the defaults, the bounds and the rules that need more than one key,
//! one file for each group of keys.

mod address;
mod auth;
mod batch;
mod body;
mod case;
mod limits;
mod network;
mod order;
mod request;
mod response;
mod retry;
mod selection;
mod sign;
mod step;
#[cfg(test)]
mod tests;
mod tls;

use super::NetworkConfig;
use super::language::Names;
use super::module::{self, Module};
use super::raw::{Table, Value};
use super::source::Place;
use super::url;
use super::values::{self, Read, Wrong};
use crate::domain::endpoint::{Endpoint, Integration};
use crate::domain::route::TypePattern;
use crate::domain::secret::Secret;
use crate::domain::url::{is_loopback, parse};

const NAME_BYTES_MAX: usize = 63;

/// An endpoint and where it was written, for the rules between endpoints.
pub(super) struct Written {
    /// The endpoint; not usable as long as there are problems.
    pub endpoint: Endpoint,
    /// Where its name stands, or the endpoint itself when it has none.
    pub place: Option<Place>,
}

/// Whether `name` may name an endpoint: `[a-z0-9-]+`, 1 to 63 bytes.
#[must_use]
pub fn is_name(name: &str) -> bool {
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
    let integration = Integration::default();
    policies(table, network, integration);
}

/// One endpoint over its module over `[defaults]`. What is missing or wrong is noted and stands in as its default.
pub(super) fn endpoint(
    own: &Table<'_>,
    defaults: &Table<'_>,
    modules: &[(&str, Module<'_>)],
    network: &NetworkConfig,
) -> Written {
    let table = own.clone().above(defaults);
    let Some(module) = module::of(&table, modules) else {
        return written(&table, network, Integration::default());
    };
    let given = module.given(&table, &selection::bind(&table));
    let table = own.clone().above(&module.endpoint).above(defaults);
    written(&table.giving(&given), network, given.integration())
}

fn written(table: &Table<'_>, network: &NetworkConfig, integration: Integration) -> Written {
    // The module that can't be read may have brought the URL.
    let lacks_module = integration.name.is_empty() && table.value("use").is_some_and(|name| !name.is_empty());
    for key in ["name", "url"] {
        let may_be_elsewhere = key == "url" && (table.has("urls") || lacks_module);
        if !table.is_written(key) && !may_be_elsewhere {
            table.missing(key);
        }
    }
    let name = table.value("name");
    let place = name
        .as_ref()
        .map(|value| value.place.clone())
        .or_else(|| table.place().cloned());
    let mut endpoint = policies(table, network, integration);
    batch::check(table, endpoint.batch.as_ref(), &endpoint.request.body);
    endpoint.name = name
        .and_then(|value| value.read(endpoint_name))
        .unwrap_or_default()
        .into();
    Written { endpoint, place }
}

/// Everything of an endpoint but its name.
fn policies(table: &Table<'_>, network: &NetworkConfig, integration: Integration) -> Endpoint {
    let text = |key| table.read(key, values::text).unwrap_or_default().into_boxed_str();
    let bind = selection::bind(table);
    let steps = step::Written::of(table);
    let before = steps.before();
    let batch = batch::batch(&table.table("batch"), &table.table("body"), &bind, &before);
    let seen = response::Seen {
        bind: &bind,
        before: &before,
        all: &steps.names,
    };
    let response = response::response(&table.table("response"), seen);
    let order = order::order(table, &bind);
    let cases = table.tables("test");
    let cases = cases
        .iter()
        .filter_map(|table| case::case(table, &bind, &steps.names))
        .collect();
    Endpoint {
        name: "".into(),
        description: text("description"),
        enabled: table.read("enabled", Value::flag).unwrap_or(true),
        tenant: text("tenant"),
        events: events(table),
        selection: selection::selection(table, &bind),
        settings: table.settings(),
        integration,
        request: request::request(table, network, &Names::of_event(&bind).behind(&before)),
        steps: steps.steps(table, network, &bind),
        bind,
        auth: auth::auth(table, network),
        sign: table.tables("sign").iter().filter_map(sign::sign).collect(),
        response,
        retry: retry::retry(&table.table("retry")),
        breaker: limits::breaker(&table.table("breaker")),
        concurrency: limits::concurrency(table),
        rate: table.read("rate", values::rate).flatten(),
        batch,
        order,
        best_effort: table.read("best_effort", Value::flag).unwrap_or(false),
        cases,
    }
}

/// Whether this endpoint may be reached without encryption although `https_only` is on.
fn allows_http(table: &Table<'_>) -> bool {
    table.read("allow_http", Value::flag).unwrap_or(false)
}

/// A URL that requests go to, and its masked form; refused without encryption unless that is wanted (D7), for which
/// `danger` says why.
fn request_url(
    value: &Value<'_>,
    network: &NetworkConfig,
    allow_http: bool,
    danger: &str,
) -> Read<(Secret, String)> {
    let written = value.resolved()?;
    let url = parse(&written.text).ok_or_else(|| {
        Wrong::whole(
            "the value is not an absolute http or https URL",
            "write it like https://example.com/hook",
        )
    })?;
    if url.scheme() == "http" && network.https_only && !allow_http && !is_loopback(&url) {
        let help = "write https://, or allow_http = true for this endpoint";
        return Err(Wrong::whole(danger, help));
    }
    Ok((Secret::new(&written.text), url::masked(&url, &written)))
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
