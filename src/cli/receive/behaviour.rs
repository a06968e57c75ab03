//! How the receiver answers: read off the path of a request, so that a test or a person chooses by the URL
//! they configure. Pure.

use std::fmt;
use std::time::Duration;

/// What a system answers that has taken a lead, in JSON.
pub const CREATED: &str =
    r#"{"status":"created","lead":{"id":"12345","score":87},"message":"Lead created successfully"}"#;

/// One way to answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// With this status. `/ok`, `/gone` (410), `/status/503`
    Status(u16),
    /// The first `tries` requests with the same `webhook-id` get `status`, later ones 200. `/fail-first/2/503`
    FailFirst {
        /// How many fail.
        tries: u32,
        /// With which status.
        status: u16,
    },
    /// With 200 after this long. `/slow/500` (milliseconds)
    Slow(Duration),
    /// Never. `/hang`
    Hang,
    /// With 200 and a body that comes byte by byte without end. `/drip`
    Drip,
    /// With a TCP reset. `/reset`
    Reset,
    /// By closing the connection without a word. `/close`
    Close,
    /// With bytes that are not HTTP. `/garbage`
    Garbage,
    /// With 302 and a `location`. `/redirect`
    Redirect,
    /// With 503 and `retry-after` in so many seconds. `/retry-after/2`
    RetryAfter(u32),
    /// With 201 and [`CREATED`] as JSON. `/created`
    Created,
    /// With 200 and a body of so many bytes. `/big/10000000000`
    Big(u64),
}

impl Behaviour {
    /// What `path` asks for; `None` if it is none of the paths above.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let (verb, first, second) = (segments.next()?, segments.next(), segments.next());
        let behaviour = match (verb, first, second) {
            ("ok", None, _) => Self::Status(200),
            ("gone", None, _) => Self::Status(410),
            ("status", Some(status), None) => Self::Status(parse_status(status)?),
            ("fail-first", Some(tries), Some(status)) => Self::FailFirst {
                tries: tries.parse().ok()?,
                status: parse_status(status)?,
            },
            ("slow", Some(ms), None) => Self::Slow(Duration::from_millis(ms.parse().ok()?)),
            ("hang", None, _) => Self::Hang,
            ("drip", None, _) => Self::Drip,
            ("reset", None, _) => Self::Reset,
            ("close", None, _) => Self::Close,
            ("garbage", None, _) => Self::Garbage,
            ("redirect", None, _) => Self::Redirect,
            ("retry-after", Some(seconds), None) => Self::RetryAfter(seconds.parse().ok()?),
            ("created", None, _) => Self::Created,
            ("big", Some(bytes), None) => Self::Big(bytes.parse().ok()?),
            _ => return None,
        };
        segments.next().is_none().then_some(behaviour)
    }
}

/// A status that can end an exchange: 1xx cannot.
fn parse_status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| (200..=999).contains(status))
}

/// The status if there is one, else what happens instead.
impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::FailFirst { tries, status } => write!(f, "{status} to the first {tries} tries"),
            Self::Slow(delay) => write!(f, "200 after {delay:?}"),
            Self::Hang => f.write_str("never"),
            Self::Drip => f.write_str("200, dripping"),
            Self::Reset => f.write_str("connection reset"),
            Self::Close => f.write_str("connection closed"),
            Self::Garbage => f.write_str("garbage"),
            Self::Redirect => f.write_str("302"),
            Self::RetryAfter(seconds) => write!(f, "503, retry after {seconds} s"),
            Self::Created => f.write_str("201 with JSON"),
            Self::Big(bytes) => write!(f, "200 with {bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H4: the paths by which the receiver misbehaves on request.
    #[test]
    fn h4_paths_choose_the_behaviour() {
        for (path, expected) in [
            ("/ok", Some(Behaviour::Status(200))),
            ("/gone", Some(Behaviour::Status(410))),
            ("/status/503", Some(Behaviour::Status(503))),
            (
                "/fail-first/2/503",
                Some(Behaviour::FailFirst {
                    tries: 2,
                    status: 503,
                }),
            ),
            ("/slow/500", Some(Behaviour::Slow(Duration::from_millis(500)))),
            ("/hang", Some(Behaviour::Hang)),
            ("/drip", Some(Behaviour::Drip)),
            ("/reset", Some(Behaviour::Reset)),
            ("/close", Some(Behaviour::Close)),
            ("/garbage", Some(Behaviour::Garbage)),
            ("/redirect", Some(Behaviour::Redirect)),
            ("/retry-after/2", Some(Behaviour::RetryAfter(2))),
            ("/created", Some(Behaviour::Created)),
            ("/big/10000000000", Some(Behaviour::Big(10_000_000_000))),
            ("/", None),
            ("/hook", None),
            ("/ok/then", None),
            ("/status", None),
            ("/status/abc", None),
            ("/status/100", None),
            ("/status/503/x", None),
            ("/fail-first/2", None),
            ("/fail-first/2/503/x", None),
        ] {
            assert_eq!(Behaviour::of_path(path), expected, "{path}");
        }
    }
}
