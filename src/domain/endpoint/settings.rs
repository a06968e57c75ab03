//! The operator's own values: `[vars]` and `[secrets]`, as templates and expressions see them.

use serde_json::Value as Json;

use crate::template::{Secrets, Value, from_json};

/// What `vars.…` and `secrets.…` stand for. Shared by all endpoints of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    written: Json,
    vars: Value,
    secrets: Secrets,
}

impl Settings {
    /// Wraps `vars`, a JSON object, and `secrets`.
    #[must_use]
    pub fn new(vars: Json, secrets: Secrets) -> Self {
        Self {
            vars: from_json(vars.clone()),
            written: vars,
            secrets,
        }
    }

    /// The same for those who may not know the secrets.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        Self {
            secrets: Secrets::default(),
            ..self.clone()
        }
    }

    /// Whether `section` (`vars` or `secrets`) has `key`.
    #[must_use]
    pub fn has(&self, section: &str, key: &str) -> bool {
        match section {
            "vars" => self.written.get(key).is_some(),
            _ => self.secrets.names().any(|name| name == key),
        }
    }

    /// `[vars]` as JSON.
    #[must_use]
    pub fn vars_json(&self) -> &Json {
        &self.written
    }

    /// `[vars]` for a scope.
    #[must_use]
    pub fn vars(&self) -> &Value {
        &self.vars
    }

    /// `[secrets]` for a scope.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}
