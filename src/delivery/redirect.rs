//! Where a redirect leads, and what goes along. Pure.

use http::header::LOCATION;
use http::{Method, StatusCode};

use super::fields::Fields;
use super::render::OutgoingRequest;

/// The request that follows `request`, which was answered by `status` and `headers`; `None` if that is no redirect
/// that can be followed.
///
/// The event goes along, by the same method (RFC 9110 §15.4 lets a client choose for 301 and 302; turning the
/// request into a GET would lose the event and look like success), except after a 303, which says that the event
/// was taken and asks for a GET. To another host or port nothing goes that may be a secret, signatures included;
/// from https to http nothing goes at all.
#[must_use]
pub fn next(request: &OutgoingRequest, status: StatusCode, headers: &Fields) -> Option<OutgoingRequest> {
    let keeps_body = match status.as_u16() {
        301 | 302 | 307 | 308 => true,
        303 => false,
        _ => return None,
    };
    let location = headers.get(&LOCATION)?.to_str().ok()?;
    let mut url = request.url.join(location).ok()?;
    let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
    if !is_http || (request.url.scheme() == "https" && url.scheme() == "http") {
        return None;
    }
    // Credentials that another side writes into a URL are not ours to use.
    url.set_username("").and_then(|()| url.set_password(None)).ok()?;
    let mut next = OutgoingRequest {
        url,
        ..request.clone()
    };
    if next.url.origin() != request.url.origin() {
        next.headers = open(&next.headers);
    }
    if !keeps_body {
        next.method = Method::GET;
        next.headers.remove(&http::header::CONTENT_TYPE);
        next.headers.remove(&http::header::CONTENT_ENCODING);
        next.body = bytes::Bytes::new();
    }
    Some(next)
}

/// The headers that may be shown to anybody.
fn open(headers: &Fields) -> Fields {
    let open = headers.iter().filter(|(_, value)| !value.is_sensitive());
    open.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn request(url: &str) -> OutgoingRequest {
        let mut secret = HeaderValue::from_static("k");
        secret.set_sensitive(true);
        OutgoingRequest {
            method: Method::PUT,
            url: url.parse().unwrap(),
            headers: [
                (http::header::CONTENT_TYPE, HeaderValue::from_static("text/x")),
                (http::HeaderName::from_static("x-key"), secret),
            ]
            .into_iter()
            .collect(),
            body: "body".into(),
        }
    }

    fn followed(from: &str, status: u16, location: &str) -> Option<OutgoingRequest> {
        let headers = [(LOCATION, HeaderValue::from_str(location).unwrap())]
            .into_iter()
            .collect();
        next(&request(from), StatusCode::from_u16(status).unwrap(), &headers)
    }

    /// D8: where each redirect leads, and whether secrets go along.
    #[test]
    fn d8_where_redirects_lead() {
        for (from, status, location, url, with_secret) in [
            (
                "https://a.example/x",
                307,
                "/y?z=1",
                Some("https://a.example/y?z=1"),
                true,
            ),
            (
                "https://a.example/x",
                308,
                "https://a.example/y",
                Some("https://a.example/y"),
                true,
            ),
            (
                "https://a.example/x",
                301,
                "//b.example/y",
                Some("https://b.example/y"),
                false,
            ),
            (
                "https://a.example/x",
                302,
                "https://a.example:8443/",
                Some("https://a.example:8443/"),
                false,
            ),
            (
                "http://a.example/x",
                307,
                "https://a.example/x",
                Some("https://a.example/x"),
                false,
            ),
            (
                "https://a.example/x",
                307,
                "https://u:p@a.example/y",
                Some("https://a.example/y"),
                true,
            ),
            ("https://a.example/x", 307, "http://a.example/x", None, false),
            ("https://a.example/x", 307, "ftp://a.example/x", None, false),
            ("https://a.example/x", 307, "http://", None, false),
            ("https://a.example/x", 300, "/y", None, false),
            ("https://a.example/x", 304, "/y", None, false),
        ] {
            let next = followed(from, status, location);
            assert_eq!(
                next.as_ref().map(|next| next.url.as_str()),
                url,
                "{status} {location}"
            );
            if let Some(next) = next {
                assert_eq!(next.headers.contains("x-key"), with_secret, "{status} {location}");
                assert_eq!((next.method.as_str(), &*next.body), ("PUT", &b"body"[..]));
                assert!(next.headers.contains("content-type"));
            }
        }
        assert!(
            next(
                &request("https://a.example/"),
                StatusCode::FOUND,
                &Fields::default()
            )
            .is_none()
        );
    }

    #[test]
    fn d8_a_303_asks_for_a_get() {
        let next = followed("https://a.example/x", 303, "/done").unwrap();
        assert_eq!((next.method.as_str(), &*next.body), ("GET", &b""[..]));
        assert!(!next.headers.contains("content-type") && next.headers.contains("x-key"));
    }
}
