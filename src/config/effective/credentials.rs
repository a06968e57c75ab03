//! `auth` and `sign` as they are in force, every secret masked.

use serde_json::{Map, Value, json};

use super::name_of;
use crate::domain::endpoint::{
    AuthPolicy, AuthStyle, Grant, HmacHash, OAuth2Policy, Rotate, RotatingPolicy, SignPolicy, SignScheme,
    SignatureEncoding, SigningSecret, TimestampFormat,
};

const MASK: &str = "***";

/// `[endpoint.auth]`
pub(super) fn auth(policy: &AuthPolicy) -> Value {
    match policy {
        AuthPolicy::None => json!({ "type": "none" }),
        AuthPolicy::HeaderKey { name, .. } => {
            json!({ "type": "api_key", "in": "header", "name": name.as_str(), "value": MASK })
        }
        AuthPolicy::QueryKey { name, .. } => {
            json!({ "type": "api_key", "in": "query", "name": name, "value": MASK })
        }
        AuthPolicy::Bearer { .. } => json!({ "type": "bearer", "token": MASK }),
        AuthPolicy::Basic { .. } => json!({ "type": "basic", "username": MASK, "password": MASK }),
        AuthPolicy::OAuth2(policy) => oauth2(policy),
        AuthPolicy::Rotating(policy) => rotating(policy),
    }
}

fn oauth2(policy: &OAuth2Policy) -> Value {
    let params: Map<_, _> = policy
        .params
        .iter()
        .map(|(name, _)| (name.to_string(), MASK.into()))
        .collect();
    let mut shown = json!({
        "type": "oauth2",
        "token_url": policy.token_url_masked,
        "client_id": MASK,
        "scope": policy.scope,
        "auth_style": name_of(AuthStyle::NAMES, &policy.style),
        "params": params,
    });
    if policy.client_secret.is_some() {
        shown["client_secret"] = MASK.into();
    }
    match policy.grant {
        Grant::ClientCredentials => shown["grant"] = "client_credentials".into(),
        Grant::RefreshToken(_) => {
            shown["grant"] = "refresh_token".into();
            shown["refresh_token"] = MASK.into();
        }
    }
    shown
}

fn rotating(policy: &RotatingPolicy) -> Value {
    let values: Vec<_> = policy
        .values
        .iter()
        .map(|token| json!({ "value": MASK, "version": token.version }))
        .collect();
    let mut shown = json!({
        "type": "rotating",
        "header": policy.header.as_str(),
        "values": values,
        "rotate": name_of(Rotate::NAMES, &policy.rotate),
    });
    if let Some(name) = &policy.version_header {
        shown["version_header"] = name.as_str().into();
    }
    shown
}

/// One `[[endpoint.sign]]`
pub(super) fn sign(policy: &SignPolicy) -> Value {
    let secrets: Vec<_> = policy.secrets.iter().map(secret).collect();
    let custom = match &policy.scheme {
        SignScheme::Preset(preset) => return json!({ "scheme": preset.name(), "secrets": secrets }),
        SignScheme::Custom(custom) => custom,
    };
    let mut shown = json!({
        "scheme": "custom",
        "secrets": secrets,
        "algorithm": name_of(HmacHash::NAMES, &custom.algorithm),
        "encoding": name_of(SignatureEncoding::NAMES, &custom.encoding),
        "content": custom.content,
        "header": custom.header.as_str(),
        "value": custom.value,
        "timestamp": name_of(TimestampFormat::NAMES, &custom.timestamp),
    });
    if let Some(name) = &custom.timestamp_header {
        shown["timestamp_header"] = name.as_str().into();
    }
    shown
}

fn secret(secret: &SigningSecret) -> Value {
    match secret.until {
        None => MASK.into(),
        Some(until) => json!({ "secret": MASK, "until": until.to_string() }),
    }
}
