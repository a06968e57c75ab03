//! From an event to the deliveries it owes: which endpoints subscribe to it.

use super::endpoint::Endpoint;

/// A subscription to event types: dot-separated segments, where `*` stands for exactly one segment and
/// `**` for any number of them (none too). `contact.*` matches `contact.created`, not `contact.a.b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypePattern(Box<str>);

impl TypePattern {
    /// Checks and wraps a pattern.
    ///
    /// # Errors
    /// Says what is wrong when the pattern is empty, longer than 255 bytes, has an empty segment, or a
    /// wildcard that is only part of a segment (`contact.cr*`).
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > 255 {
            return Err(format!(
                "an event type pattern has 1 to 255 bytes, this one has {}",
                text.len()
            ));
        }
        for segment in text.split('.') {
            if segment.is_empty() {
                return Err(format!(
                    "{text:?} has an empty segment; write it without the extra dot"
                ));
            }
            if segment.contains('*') && segment != "*" && segment != "**" {
                return Err(format!(
                    "{segment:?} in {text:?}: a wildcard stands for whole segments, `*` for one and `**` for any number"
                ));
            }
        }
        Ok(Self(text.into()))
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `kind` (an event's `type`) is one this pattern asks for.
    #[must_use]
    pub fn matches(&self, kind: &str) -> bool {
        if &*self.0 == "**" || *self.0 == *kind {
            return true;
        }
        if !self.0.contains('*') {
            return false;
        }
        let pattern: Vec<&str> = self.0.split('.').collect();
        let kind: Vec<&str> = kind.split('.').collect();
        segments_match(&pattern, &kind)
    }
}

/// Greedy matching with one step back, so that the time is at most pattern × segments whatever the
/// pattern: on a mismatch the latest `**` takes one segment more and the rest is tried again.
fn segments_match(pattern: &[&str], kind: &[&str]) -> bool {
    let (mut p, mut k) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while k < kind.len() {
        match pattern.get(p) {
            Some(&"**") => {
                star = Some((p, k));
                p += 1;
            }
            Some(&segment) if segment == "*" || segment == kind[k] => {
                p += 1;
                k += 1;
            }
            _ => match star {
                Some((star_p, star_k)) => {
                    star = Some((star_p, star_k + 1));
                    p = star_p + 1;
                    k = star_k + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|segment| *segment == "**")
}

/// The endpoints that an event's attribute `endpoint` names: one, or several with commas between them.
pub fn addressees(addressed: &str) -> impl Iterator<Item = &str> {
    addressed.split(',').map(str::trim)
}

/// Whether `endpoint` is owed an event of type `kind` and `tenant`, addressed to `addressed` alone if that
/// is given. A disabled or paused endpoint is owed it too: its deliveries are parked, never dropped.
#[must_use]
pub fn is_owed(endpoint: &Endpoint, kind: &str, tenant: Option<&str>, addressed: Option<&str>) -> bool {
    if let Some(names) = addressed {
        return addressees(names).any(|name| *endpoint.name == *name);
    }
    if !endpoint.tenant.is_empty() && Some(&*endpoint.tenant) != tenant {
        return false;
    }
    endpoint.events.iter().any(|pattern| pattern.matches(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B1: exact types, `*` for one segment, `**` for any number.
    #[test]
    fn b1_patterns_match_by_segment() {
        for (pattern, kind, expected) in [
            ("contact.created", "contact.created", true),
            ("contact.created", "contact.updated", false),
            ("contact.*", "contact.created", true),
            ("contact.*", "contact", false),
            ("contact.*", "contact.a.b", false),
            ("contact.**", "contact.a.b", true),
            ("contact.**", "contact", true),
            ("**", "anything.at.all", true),
            ("*", "one", true),
            ("*", "one.two", false),
            ("**.created", "a.b.created", true),
            ("**.created", "created", true),
            ("a.**.z", "a.b.c.z", true),
            ("a.**.z", "a.b.c", false),
            ("a.**.b.*.c", "a.b.b.x.c", true),
            ("*.**", "a", true),
        ] {
            let parsed = TypePattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(kind), expected, "{pattern} on {kind}");
        }
    }

    #[test]
    fn bad_patterns_say_what_is_wrong() {
        for (pattern, message) in [
            ("", "1 to 255 bytes"),
            ("a..b", "empty segment"),
            ("a.cr*", "whole segments"),
        ] {
            let error = TypePattern::parse(pattern).unwrap_err();
            assert!(error.contains(message), "{pattern}: {error}");
        }
    }

    /// A pattern made to be slow is not: thirty `**` against eighty segments ends at once.
    #[test]
    fn many_wildcards_stay_cheap() {
        let pattern = TypePattern::parse(&["**.a"; 30].join(".")).unwrap();
        assert!(!pattern.matches(&["a"; 80].join(".").replace("a.a", "a.b")[..]));
    }
}
