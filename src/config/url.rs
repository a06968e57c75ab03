//! The URL of an endpoint: whether it can be requested at all, whether without encryption, and what of it
//! may be shown. A URL may carry secrets anywhere but in its scheme, host and port.

use url::{Host, Url};

use super::secrets::Resolved;

/// Reads an absolute http or https URL. `None` for anything else.
pub(super) fn parse(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty()))
        .then_some(url)
}

/// Whether the URL's host can only be this machine: localhost (RFC 6761 §6.3) or a loopback address.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// What may be shown of `url`: password, query values and everything that came from a reference are
/// `***`. When a reference gave more than a part (the whole URL, say), only scheme, host and port remain.
pub(super) fn masked(url: &Url, written: &Resolved) -> String {
    match parse(&written.masked) {
        Some(shown) if shown.host() == url.host() && shown.port() == url.port() => mask_parts(shown),
        _ => format!("{}/***", url.origin().ascii_serialization()),
    }
}

/// `***` for the password (or for a user name that stands alone, which is how tokens are written) and for
/// every query value; the fragment, which is never sent, goes.
fn mask_parts(mut url: Url) -> String {
    if url.password().is_some() {
        // Fails only for URLs without a host, which `parse` has refused.
        let _ = url.set_password(Some("***"));
    } else if !url.username().is_empty() {
        let _ = url.set_username("***");
    }
    let query = url
        .query()
        .map(|query| query.split('&').map(mask_pair).collect::<Vec<_>>().join("&"));
    url.set_query(query.as_deref());
    url.set_fragment(None);
    url.into()
}

fn mask_pair(pair: &str) -> String {
    pair.split_once('=')
        .map_or("***".to_owned(), |(name, _)| format!("{name}=***"))
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

    /// D7: which hosts are this machine.
    #[test]
    fn d7_loopback_hosts() {
        for (text, expected) in [
            ("http://localhost/", true),
            ("http://a.localhost:80/", true),
            ("http://127.9.9.9/", true),
            ("http://[::1]:8080/", true),
            ("http://localhost.example.com/", false),
            ("http://10.0.0.1/", false),
            ("http://[::2]/", false),
        ] {
            assert_eq!(is_loopback(&parse(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn only_absolute_http_urls_are_urls() {
        for text in [
            "",
            "/hook",
            "a.example/hook",
            "ftp://a.example/",
            "mailto:a@b",
            "https://",
            "file:///x",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
