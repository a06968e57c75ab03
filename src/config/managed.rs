//! Endpoints that were defined over the control API: a file each in a folder of the store's, in the form of the files
//! that `include` names, so that they are read and judged like any other. Here is what their files are called and how
//! the JSON of the API becomes their text and back; it refuses to know who writes them.

use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::StoreConfig;
use super::module::Text as ModuleText;
use super::problem::{Findings, Problem};

/// The folder in the store's.
const FOLDER: &str = "endpoints";
/// What stands above each.
const HEAD: &str = "# Defined over the control API; change it by posthaste endpoints put or delete.\n";

/// Keys of an `[[endpoint]]` with their values, as JSON.
pub type Keys = Map<String, Value>;

/// Files with what stands in each.
pub type FileTexts = Vec<(PathBuf, String)>;

/// The files of a configuration, as they were read. They may hold secrets, so they are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Texts {
    /// The file that was named.
    pub main: (PathBuf, String),
    /// Those it includes.
    pub included: FileTexts,
    /// Those of endpoints defined over the API, in order of their names.
    pub managed: FileTexts,
    /// Those of the integration modules that are used.
    pub modules: Vec<ModuleText>,
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[texts]")
    }
}

impl Texts {
    /// The keys of the endpoint called `name`, if it was defined over the API.
    #[must_use]
    pub fn keys(&self, name: &str) -> Option<Keys> {
        let (_, text) = self.managed.iter().find(|(path, _)| is_file_of(path, name))?;
        keys_of(text)
    }

    /// These texts with the endpoint called `name` as `text` says, or with `None` without it.
    #[must_use]
    pub fn with(&self, folder: &Path, name: &str, text: Option<String>) -> Self {
        let mut changed = self.clone();
        changed.managed.retain(|(path, _)| !is_file_of(path, name));
        changed
            .managed
            .extend(text.map(|text| (file(folder, name), text)));
        changed.managed.sort();
        changed
    }
}

/// Where the endpoints defined over the API are kept.
#[must_use]
pub fn folder(store: &StoreConfig) -> PathBuf {
    store.path.join(FOLDER)
}

/// The file of the endpoint called `name`, which has to be a name.
#[must_use]
pub fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.toml"))
}

/// The name a file is for.
pub(super) fn name_of(file: &Path) -> &str {
    file.file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn is_file_of(file: &Path, name: &str) -> bool {
    name_of(file) == name
}

/// The files in `folder`, in order of their names. One that is not there has none; one that can't be read is a
/// problem, because its endpoints would be taken for removed.
pub(super) fn read(folder: &Path, findings: &RefCell<Findings>) -> FileTexts {
    let wrong = |path: &Path, error: &std::io::Error| {
        let message = format!("endpoints defined over the API can't be read: {error}");
        let help = "this is for the daemon's user: sudo -u posthaste posthaste check";
        let problem = Problem::of_file(path.to_owned(), message, help);
        findings.borrow_mut().problems.push(problem);
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                wrong(folder, &error);
            }
            return Vec::new();
        }
    };
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            super::endpoint::is_name(name_of(path)) && path.extension().is_some_and(|e| e == "toml")
        })
        .collect();
    paths.sort();
    let mut texts = Vec::with_capacity(paths.len());
    for path in paths {
        match fs::read_to_string(&path) {
            Ok(text) => texts.push((path, text)),
            Err(error) => wrong(&path, &error),
        }
    }
    texts
}

/// The text of the file for the endpoint called `name` with these keys.
///
/// # Errors
/// A sentence that names the key, when JSON says what TOML can't, or when a value is what is shown in place of a
/// secret.
pub fn text(name: &str, keys: &Keys) -> Result<String, String> {
    for (key, value) in keys {
        sayable(key, value)?;
    }
    let mut keys = keys.clone();
    keys.insert("name".to_owned(), name.into());
    let document = Value::from_iter([("endpoint", Value::from(vec![Value::Object(keys)]))]);
    let body = toml::to_string(&document).map_err(|error| format!("it can't be kept: {error}"))?;
    Ok(format!("{HEAD}{body}"))
}

fn sayable(key: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Null => Err(format!("{key}: null is no value; leave the key out")),
        Value::String(text) if text.contains("***") => Err(format!(
            "{key}: *** is what is shown in place of a secret; give the secret, or change the other keys by PATCH"
        )),
        Value::Object(entries) => entries
            .iter()
            .try_for_each(|(inner, value)| sayable(&format!("{key}.{inner}"), value)),
        Value::Array(items) => items.iter().try_for_each(|item| sayable(key, item)),
        _ => Ok(()),
    }
}

fn keys_of(text: &str) -> Option<Keys> {
    let mut document: Value = toml::from_str(text).ok()?;
    match document.get_mut("endpoint")?.get_mut(0)?.take() {
        Value::Object(keys) => Some(keys),
        _ => None,
    }
}

/// Applies a merge patch (RFC 7396): what is `null` in the patch goes, objects are merged, all else is replaced.
pub fn merge(keys: &mut Keys, patch: &Keys) {
    for (key, value) in patch {
        match (keys.get_mut(key), value) {
            (_, Value::Null) => {
                keys.remove(key);
            }
            (Some(Value::Object(inner)), Value::Object(patch)) => merge(inner, patch),
            (_, Value::Object(patch)) => {
                let mut inner = Keys::new();
                merge(&mut inner, patch);
                keys.insert(key.clone(), Value::Object(inner));
            }
            _ => {
                keys.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(value: Value) -> Keys {
        match value {
            Value::Object(keys) => keys,
            other => panic!("{other} is no object"),
        }
    }

    /// H2: what the API was given is what the file says, and comes back out of it.
    #[test]
    fn h2_keys_go_both_ways() {
        let given = keys(json!({
            "url": "https://a.example/?q=\"x\"\n", "events": ["a.*"], "headers": { "X-A": "1" }, "concurrency": 4,
            "retry": { "delay": "1s", "jitter": 0.5, "retry_on": ["5xx", 429] }, "sign": [{ "secrets": ["s"] }],
            "enabled": false,
        }));
        let text = text("crm", &given).unwrap();
        assert!(text.starts_with("# Defined over"), "{text}");
        let mut expected = given;
        expected.insert("name".to_owned(), "crm".into());
        assert_eq!(keys_of(&text), Some(expected));
    }

    #[test]
    fn h2_what_toml_cannot_say_is_refused() {
        for (given, message) in [
            (
                json!({ "retry": { "delay": null } }),
                "retry.delay: null is no value",
            ),
            (json!({ "sign": [{ "secrets": ["***"] }] }), "sign.secrets: ***"),
            (json!({ "url": "https://a.example/?token=***" }), "url: ***"),
        ] {
            let error = text("crm", &keys(given)).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }

    /// The examples of RFC 7396, appendix A, that begin and end with an object.
    #[test]
    fn h2_a_patch_is_a_merge_patch() {
        for (target, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            let mut target = keys(target);
            merge(&mut target, &keys(patch.clone()));
            assert_eq!(Value::Object(target), expected, "{patch}");
        }
    }
}
