//! `[traces]`, from written to checked.

use http::{HeaderName, HeaderValue};

use super::raw::{Table, Value};
use super::url::masked;
use super::values::{self, Read, Wrong};
use super::{TracesConfig, TracesEndpoint};
use crate::domain::secret::Secret;
use crate::domain::url::parse;

/// Whether this program can send traces.
const IS_BUILT_IN: bool = cfg!(feature = "otel");

/// `[traces]`
pub(super) fn traces(table: &Table<'_>) -> TracesConfig {
    let default = TracesConfig::default();
    TracesConfig {
        endpoint: table.read("endpoint", endpoint).unwrap_or(default.endpoint),
        sample: table
            .read("sample", values::number(0.0..=1.0))
            .unwrap_or(default.sample),
        service_name: table
            .read("service_name", service_name)
            .unwrap_or(default.service_name),
        headers: headers(table),
    }
}

fn endpoint(value: &Value<'_>) -> Read<Option<TracesEndpoint>> {
    let written = value.masked()?;
    if written.text.is_empty() {
        return Ok(None);
    }
    if !IS_BUILT_IN {
        return Err(Wrong::whole(
            "this posthaste was built without traces",
            "build it with the cargo feature otel, or leave endpoint empty",
        ));
    }
    let url = parse(&written.text).ok_or_else(|| {
        let help = "write it like http://127.0.0.1:4318/v1/traces";
        Wrong::whole("this is no http or https URL", help)
    })?;
    Ok(Some(TracesEndpoint {
        shown: masked(&url, &written).into(),
        url: Secret::new(url.as_str()),
    }))
}

fn service_name(value: &Value<'_>) -> Read<String> {
    match values::text(value)? {
        name if name.is_empty() => Err(Wrong::new("is no name", "write it like posthaste-eu")),
        name => Ok(name),
    }
}

fn headers(table: &Table<'_>) -> Vec<(HeaderName, Secret)> {
    let entries = table.entries("headers").into_iter();
    let read = entries.filter_map(|(place, name, value)| {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            let help = "letters, digits and - only";
            value.reject_at(&place, &Wrong::whole("this is not the name of a header", help));
            return None;
        };
        value.read(header_value).map(|text| (name, text))
    });
    read.collect()
}

fn header_value(value: &Value<'_>) -> Read<Secret> {
    let text = values::text(value)?;
    HeaderValue::from_str(&text)
        .map(|_| Secret::new(&text))
        .map_err(|_| Wrong::whole("no header can hold this value", "take out its control characters"))
}
