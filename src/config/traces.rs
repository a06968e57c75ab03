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

#[cfg(test)]
mod tests {
    use super::super::effective;
    use super::super::tests::{problems, read};

    /// H6: what is wrong is said, and never what may be secret in it.
    #[test]
    #[cfg(feature = "otel")]
    fn h6_bad_values_are_named() {
        for (line, expected) in [
            (
                "endpoint = \"localhost:4318\"",
                "traces.endpoint: this is no http or https URL; write it like http://127.0.0.1:4318/v1/traces",
            ),
            ("sample = 2.0", "traces.sample: "),
            ("service_name = \"\"", "traces.service_name: "),
            (
                "headers = { \"x y\" = \"s3cret\" }",
                "this is not the name of a header",
            ),
            (
                "headers = { x-y = \"s3cret\\n\" }",
                "no header can hold this value",
            ),
            ("endpont = \"\"", "did you mean `endpoint`?"),
        ] {
            let said = problems(&format!("[traces]\n{line}\n"));
            assert!(
                said.contains(expected) && !said.contains("s3cret"),
                "{line}: {said}"
            );
        }
    }

    /// H6: without the feature an endpoint is refused, with what to do; the section may stand empty.
    #[test]
    #[cfg(not(feature = "otel"))]
    fn h6_a_program_without_traces_says_so() {
        let said = problems("[traces]\nendpoint = \"http://127.0.0.1:4318/v1/traces\"\n");
        assert!(said.contains("built without traces"), "{said}");
        assert_eq!(problems("[traces]\nendpoint = \"\"\nsample = 0.5\n"), "");
    }

    /// C6: the receiver's URL and headers are shown without their secrets.
    #[test]
    #[cfg(feature = "otel")]
    fn c6_secrets_of_traces_are_masked() {
        let text = "[traces]\nendpoint = \"https://u:s3cret@a.example/v1?key=s3cret\"\nheaders = { x-key = \"s3cret\" }\n";
        let config = read(text).unwrap().config;
        let shown = effective(&config)["traces"].to_string();
        assert!(shown.contains("a.example") && shown.contains("x-key"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
