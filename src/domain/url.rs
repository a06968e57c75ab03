//! URLs of endpoints: whether one can be requested at all, whether without encryption, and what of it may be shown. A
//! URL may carry secrets anywhere but in its scheme, host and port.

use url::{Host, Url};

/// Reads an absolute http or https URL. `None` for anything else.
#[must_use]
pub fn parse(text: &str) -> Option<Url> {
    parse_with(text, &["http", "https"])
}

/// Reads an absolute URL with one of `schemes` and a host. `None` for anything else.
#[must_use]
pub fn parse_with(text: &str, schemes: &[&str]) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (schemes.contains(&url.scheme()) && url.host_str().is_some_and(|host| !host.is_empty())).then_some(url)
}

/// Whether the URL's host can only be this machine: localhost (RFC 6761 §6.3) or a loopback address.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
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

/// `***` for the password (or for a user name that stands alone, which is how tokens are written) and for
/// every query value; the fragment, which is never sent, goes.
#[must_use]
pub fn mask_parts(mut url: Url) -> String {
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
