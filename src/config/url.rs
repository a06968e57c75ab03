//! What may be shown of an endpoint's URL as it was written.

use url::Url;

use super::secrets::Resolved;
use crate::domain::url::{mask_parts, parse};

/// What may be shown of `url`: password, query values and everything that came from a reference are
/// `***`. When a reference gave more than a part (the whole URL, say), only scheme, host and port remain.
pub(super) fn masked(url: &Url, written: &Resolved) -> String {
    match parse(&written.masked) {
        Some(shown) if shown.host() == url.host() && shown.port() == url.port() => mask_parts(shown),
        _ => format!("{}/***", url.origin().ascii_serialization()),
    }
}

/// What may be shown of a URL with templates in it, references masked already: a query value is shown when it is made
/// from the event alone.
pub(super) fn masked_template(source: &str) -> String {
    let Some((address, query)) = source.split_once('?') else {
        return source.to_owned();
    };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value))
            if value.starts_with("{{") && value.ends_with("}}") && !value.contains("secrets") =>
        {
            format!("{name}={value}")
        }
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    });
    format!("{address}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// What may be shown of a proxy's URL: its scheme, host and port, and that there are credentials.
pub(super) fn masked_proxy(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        return "***".to_owned();
    };
    if !url.username().is_empty() || url.password().is_some() {
        // Fails only for URLs without a host, which are no proxy's.
        let _ = url.set_username("***");
        let _ = url.set_password(None);
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C6: what is shown of a URL has no password, no query value and nothing from a reference.
    #[test]
    fn c6_urls_are_masked() {
        for (text, reference, shown) in [
            ("https://a.example/hook", "", "https://a.example/hook"),
            (
                "https://u:pw@a.example/?k=v&x=1&flag#f",
                "",
                "https://u:***@a.example/?k=***&x=***&***",
            ),
            ("https://token@a.example/", "", "https://***@a.example/"),
            (
                "https://a.example/services/T0K3N",
                "T0K3N",
                "https://a.example/services/***",
            ),
            (
                "https://a.example:8443/x",
                "https://a.example:8443/x",
                "https://a.example:8443/***",
            ),
            ("https://a.example/x", "a.example", "https://a.example/***"),
            (
                "http://127.0.0.1:8080/p?t=T0K3N",
                "T0K3N",
                "http://127.0.0.1:8080/p?t=***",
            ),
        ] {
            let masked_text = if reference.is_empty() {
                text.to_owned()
            } else {
                text.replace(reference, "***")
            };
            let resolved = Resolved {
                text: text.to_owned(),
                masked: masked_text,
                has_reference: true,
                has_secret: true,
                ..Resolved::default()
            };
            assert_eq!(masked(&parse(text).unwrap(), &resolved), shown, "{text}");
        }
    }
}
