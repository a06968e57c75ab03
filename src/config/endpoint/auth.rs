//! `[endpoint.auth]`: who the requests say they come from.

use super::request_url;
use crate::config::NetworkConfig;
use crate::config::keys;
use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::{
    AuthPolicy, AuthStyle, Grant, OAuth2Policy, Rotate, RotatingPolicy, RotatingValue,
};
use crate::domain::secret::Secret;

/// Each type with its keys; the first of them have to be there.
const TYPES: &[(&str, &[&str], &[&str])] = &[
    ("none", &[], &[]),
    ("api_key", &["name", "value"], &["in"]),
    ("bearer", &["token"], &[]),
    ("basic", &["username", "password"], &[]),
    (
        "oauth2",
        &["token_url", "client_id"],
        &[
            "client_secret",
            "scope",
            "grant",
            "refresh_token",
            "auth_style",
            "params",
        ],
    ),
    ("rotating", &["header", "values"], &["version_header", "rotate"]),
];

/// Where an API key goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
    Query,
}

const PLACES: &[(&str, Place)] = &[("header", Place::Header), ("query", Place::Query)];

/// How a token is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GrantKind {
    ClientCredentials,
    RefreshToken,
}

const GRANTS: &[(&str, GrantKind)] = &[
    ("client_credentials", GrantKind::ClientCredentials),
    ("refresh_token", GrantKind::RefreshToken),
];

/// The credentials of the endpoint or step in `table`.
pub(super) fn auth(table: &Table<'_>, network: &NetworkConfig) -> AuthPolicy {
    let policy = policy(&table.table("auth"), network, super::allows_http(table));
    warn_of_replaced(table, &policy);
    table
        .tables("route")
        .iter()
        .for_each(|route| warn_of_replaced(route, &policy));
    policy
}

/// Warns of headers that never go out as they are written in `table`. What stands in `[defaults]` may be meant for others.
fn warn_of_replaced(table: &Table<'_>, policy: &AuthPolicy) {
    let own = policy.headers();
    for (place, name, value) in table.entries("headers") {
        let is_replaced = own.iter().any(|own| name.eq_ignore_ascii_case(own.as_str()));
        if is_replaced && !place.key.starts_with("defaults.") {
            value.warn(&Wrong::whole(
                "auth sets this header on every request, so what stands here is never sent",
                "remove it, or auth",
            ));
        }
    }
}

/// What `[endpoint.auth]` says. A table of its own replaces that of `[defaults]` whole, since keys of one type
/// mean nothing to another.
fn policy(table: &Table<'_>, network: &NetworkConfig, allow_http: bool) -> AuthPolicy {
    let every: Vec<_> = keys::AUTH.keys.iter().map(|(key, _)| *key).collect();
    let table = &table.layer_with_any(&every);
    if table.refuse_templates_but(&[]) {
        return AuthPolicy::None;
    }
    let kind = table.read("type", kind);
    if table.has("type") && kind.is_none() {
        return AuthPolicy::None;
    }
    let (name, needed, more) = kind.unwrap_or(TYPES[0]);
    for key in every.iter().filter(|key| **key != "type") {
        if !needed.contains(key) && !more.contains(key) {
            refuse(table, key, name);
        }
    }
    let missing: Vec<_> = needed.iter().filter(|key| !table.has(key)).collect();
    missing.iter().for_each(|key| table.missing(key));
    let policy = match name {
        "api_key" => api_key(table),
        "bearer" => secret(table, "token").map(|token| AuthPolicy::Bearer { token }),
        "basic" => basic(table),
        "oauth2" => oauth2(table, network, allow_http),
        "rotating" => rotating(table),
        _ => None,
    };
    policy.unwrap_or_default()
}

fn kind(value: &Value<'_>) -> Read<(&'static str, &'static [&'static str], &'static [&'static str])> {
    let text = values::text(value)?;
    let found = TYPES.iter().find(|(name, ..)| *name == text);
    found.copied().ok_or_else(|| {
        let known: Vec<_> = TYPES.iter().map(|(name, ..)| *name).collect();
        Wrong::new("is not known here", format!("write one of {}", known.join(" ")))
    })
}

fn refuse(table: &Table<'_>, key: &str, kind: &str) {
    let owner = TYPES
        .iter()
        .find(|(_, needed, more)| needed.contains(&key) || more.contains(&key));
    let owner = owner.map_or("none", |(name, ..)| name);
    table.reject_key(
        &[key],
        &Wrong::whole(
            format!("{key} means nothing with type = \"{kind}\""),
            format!("leave it away, or write type = \"{owner}\""),
        ),
    );
}

fn secret(table: &Table<'_>, key: &str) -> Option<Secret> {
    table.read(key, some_secret)
}

fn some_secret(value: &Value<'_>) -> Read<Secret> {
    let text = values::text(value)?;
    if text.is_empty() {
        return Err(Wrong::whole(
            "there is nothing in it",
            "write it like \"${env:NAME}\"",
        ));
    }
    if text.contains(|c: char| c.is_control()) {
        return Err(Wrong::whole(
            "it holds a line break or another control character, which no header can carry",
            "",
        ));
    }
    Ok(Secret::new(&text))
}

fn api_key(table: &Table<'_>) -> Option<AuthPolicy> {
    let place = table.read("in", values::choice(PLACES)).unwrap_or(Place::Header);
    let value = secret(table, "value");
    if place == Place::Query {
        let name = table.read("name", values::text)?;
        return Some(AuthPolicy::QueryKey {
            name: name.into(),
            value: value?,
        });
    }
    let name = table.read("name", values::header_name);
    Some(AuthPolicy::HeaderKey {
        name: name?,
        value: value?,
    })
}

fn basic(table: &Table<'_>) -> Option<AuthPolicy> {
    let user = |value: &Value<'_>| {
        let name = some_secret(value)?;
        if name.expose().contains(':') {
            // RFC 7617 §2.
            return Err(Wrong::whole(
                "a user name with a colon can't be told from its password",
                "",
            ));
        }
        Ok(name)
    };
    let username = table.read("username", user);
    let password = table.read("password", |value| Ok(Secret::new(&values::text(value)?)));
    Some(AuthPolicy::Basic {
        username: username?,
        password: password?,
    })
}

fn oauth2(table: &Table<'_>, network: &NetworkConfig, allow_http: bool) -> Option<AuthPolicy> {
    let token_url = table.read("token_url", |value| {
        request_url(
            value,
            network,
            allow_http,
            "http:// shows client_secret and tokens to everybody on the way",
        )
    });
    let client_id = secret(table, "client_id");
    let client_secret = secret(table, "client_secret");
    let grant = grant(table);
    let params = table
        .entries("params")
        .into_iter()
        .filter_map(|(_, name, value)| {
            let value = value.read(values::text)?;
            Some((name.into(), Secret::new(&value)))
        });
    let params = params.collect();
    let style = table
        .read("auth_style", values::choice(AuthStyle::NAMES))
        .unwrap_or(AuthStyle::Body);
    let scope = table.read("scope", values::text).unwrap_or_default();
    let (token_url, token_url_masked) = token_url?;
    Some(AuthPolicy::OAuth2(Box::new(OAuth2Policy {
        token_url,
        token_url_masked: token_url_masked.into(),
        client_id: client_id?,
        client_secret,
        scope: scope.into(),
        grant: grant?,
        style,
        params,
    })))
}

fn grant(table: &Table<'_>) -> Option<Grant> {
    let kind = table.read("grant", values::choice(GRANTS));
    let token = secret(table, "refresh_token");
    match kind.unwrap_or(GrantKind::ClientCredentials) {
        GrantKind::RefreshToken => {
            if !table.has("refresh_token") {
                table.missing("refresh_token");
            }
            token.map(Grant::RefreshToken)
        }
        GrantKind::ClientCredentials => {
            table.reject_key(
                &["refresh_token"],
                &Wrong::whole(
                    "grant = \"client_credentials\" uses no refresh_token",
                    "leave it away, or write grant = \"refresh_token\"",
                ),
            );
            if !table.has("client_secret") {
                table.missing("client_secret");
            }
            Some(Grant::ClientCredentials)
        }
    }
}

fn rotating(table: &Table<'_>) -> Option<AuthPolicy> {
    let header = table.read("header", values::header_name);
    let version_header = table.read("version_header", values::header_name);
    let list = table.value("values")?;
    let items = list.some_items(
        "write it like values = [\"${env:TOKEN_1}\", \"${env:TOKEN_2}\"]",
        "no token is listed",
    );
    let values: Vec<_> = items.iter().zip(1..).filter_map(rotating_value).collect();
    let rotate = table
        .read("rotate", values::choice(Rotate::NAMES))
        .unwrap_or(Rotate::OnRefusal);
    Some(AuthPolicy::Rotating(Box::new(RotatingPolicy {
        header: header?,
        values: Some(values).filter(|values| !values.is_empty())?,
        version_header,
        rotate,
    })))
}

/// A token, or a table of a token and its version; else its version is its place in the list.
fn rotating_value((item, place): (&Value<'_>, usize)) -> Option<RotatingValue> {
    let placed = || place.to_string();
    let (value, version) = match item.as_table(&keys::ROTATING_VALUE) {
        None => (item.read(some_secret), placed()),
        Some(table) => {
            if !table.has("value") {
                table.missing("value");
            }
            let version = table.read("version", values::text);
            (secret(&table, "value"), version.unwrap_or_else(placed))
        }
    };
    Some(RotatingValue {
        value: value?,
        version: version.into(),
    })
}
