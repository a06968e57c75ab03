//! The way of an endpoint's requests: a proxy, and redirects.

use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::secret::Secret;

/// Redirects that may be followed.
const REDIRECTS_MAX: u32 = 10;

/// Kinds of proxies; with `socks5h`, as with `http` and `https`, it is the proxy that resolves names.
const PROXY_SCHEMES: &[&str] = &["http", "https", "socks5", "socks5h"];

/// How many redirects are followed.
pub(super) fn redirects(table: &Table<'_>) -> u32 {
    table
        .read("follow_redirects", values::count(0..=REDIRECTS_MAX))
        .unwrap_or(0)
}

/// The URL of the proxy, if there is one.
pub(super) fn proxy(table: &Table<'_>) -> Option<Secret> {
    table.read("proxy", proxy_url).flatten()
}

fn proxy_url(value: &Value<'_>) -> Read<Option<Secret>> {
    let text = values::text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    if crate::domain::url::parse_with(&text, PROXY_SCHEMES).is_none() {
        return Err(Wrong::whole(
            "the value is not the URL of a proxy",
            "write it like http://user:password@proxy.example:3128 or socks5://proxy.example:1080",
        ));
    }
    Ok(Some(Secret::new(&text)))
}
