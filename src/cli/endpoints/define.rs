//! Endpoints of the API's own: putting, deleting, enabling and disabling them.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::client::Client;
use super::super::failure::{Done, Failure};
use super::super::input;
use super::super::print::{self, ask, counted};
use super::path;
use crate::control::types::{EndpointView, Removed};

/// Defines `name` by the keys in `file`, or on standard input when that is `-`.
///
/// # Errors
/// When the keys can't be read, or the daemon refuses or can't be reached.
pub async fn put(client: &Client, name: &str, file: &Path, json: bool) -> Done {
    let keys = keys(file)?;
    let view: EndpointView = client.put(&path(name, ""), &keys).await?;
    tell(&view, "is defined", json)
}

/// Enables or disables `name`.
///
/// # Errors
/// When the daemon refuses or can't be reached.
pub async fn enable(client: &Client, name: &str, enabled: bool, json: bool) -> Done {
    let view: EndpointView = client
        .patch(&path(name, ""), &json!({ "enabled": enabled }))
        .await?;
    let done = if enabled {
        "is enabled"
    } else {
        "is disabled; events for it are parked"
    };
    tell(&view, done, json)
}

/// Removes `name`, after asking.
///
/// # Errors
/// When nobody can be asked, or the daemon refuses or can't be reached.
pub async fn delete(client: &Client, name: &str, yes: bool, json: bool) -> Done {
    if !yes {
        let view: EndpointView = client.get(&path(name, "")).await?;
        if !ask(&format!(
            "Remove the endpoint {name} ({} pending)?",
            view.status.pending
        ))? {
            return print::line("nothing was removed");
        }
    }
    let removed: Removed = client.delete(&path(name, "")).await?;
    if json {
        return print::json_line(&removed);
    }
    print::line(&removed_text(&removed))
}

fn removed_text(removed: &Removed) -> String {
    let Removed {
        name,
        deliveries,
        dead,
    } = removed;
    let mut text = format!("{name} is removed");
    if *deliveries > 0 {
        text.push_str(&format!(
            "; it is still owed {deliveries}: posthaste endpoints move {name} --to OTHER, or posthaste endpoints bury {name}"
        ));
    }
    if *dead > 0 {
        text.push_str(&format!("; its {} stay", counted(*dead, "dead letter")));
    }
    text
}

fn tell(view: &EndpointView, done: &str, json: bool) -> Done {
    if json {
        return print::json_line(view);
    }
    print::line(&format!("{} {done}; {} pending", view.name, view.status.pending))
}

/// The keys of an `[[endpoint]]` from a file: a JSON object, or TOML.
fn keys(file: &Path) -> Result<Map<String, Value>, Failure> {
    let shown = file.display();
    let text = input::text(file);
    let text = text.map_err(|error| Failure::Usage(format!("{shown} can't be read: {error}")))?;
    parse(&text).map_err(|problem| Failure::Usage(format!("{shown}: {problem}")))
}

fn parse(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"));
    }
    let keys: Map<String, Value> =
        toml::from_str(text).map_err(|error| format!("neither JSON nor TOML: {error}"))?;
    match keys.get("endpoint") {
        None => Ok(keys),
        // As it stands in a configuration file.
        Some(Value::Array(tables)) if keys.len() == 1 && tables.len() == 1 => {
            Ok(tables[0].as_object().cloned().unwrap_or_default())
        }
        Some(_) => Err("it has more than one [[endpoint]]; put them one by one".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H2: JSON, bare keys in TOML, and an `[[endpoint]]` as in a file mean the same.
    #[test]
    fn h2_keys_come_in_three_forms() {
        let expected = json!({ "url": "https://a.example", "retry": { "max_attempts": 1 } });
        for text in [
            "\n{\"url\":\"https://a.example\",\"retry\":{\"max_attempts\":1}}",
            "url = \"https://a.example\"\nretry.max_attempts = 1",
            "[[endpoint]]\nurl = \"https://a.example\"\n[endpoint.retry]\nmax_attempts = 1\n",
        ] {
            assert_eq!(parse(text).map(Value::Object), Ok(expected.clone()), "{text}");
        }
        for bad in ["{", "url =", "[[endpoint]]\n[[endpoint]]\n"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_left_is_said() {
        let removed = |deliveries, dead| Removed {
            name: "crm".to_owned(),
            deliveries,
            dead,
        };
        assert_eq!(removed_text(&removed(0, 0)), "crm is removed");
        let text = removed_text(&removed(3, 1));
        assert!(
            text.contains("endpoints move crm --to") && text.ends_with("its 1 dead letter stay"),
            "{text}"
        );
    }
}
