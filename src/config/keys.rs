//! Every key of the configuration, in one table: which work, which are known but not supported yet, and
//! which may hold a secret. What a key means is read elsewhere; what a key is called stands only here.

/// A table of the file and the keys it may hold.
#[derive(Debug)]
pub(super) struct Section {
    /// As its header is written, without brackets.
    pub name: &'static str,
    /// Every key.
    pub keys: &'static [(&'static str, Kind)],
}

/// What stands at a key. What may be shown has the shape that editors are told of; whether the value is
/// right is for its reader to say.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A value that may be shown, of any shape.
    Plain,
    /// A text: a name, a path, a template.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A whole number from the first to the second.
    Count(u64, u64),
    /// A number from the first to the second.
    Number(f64, f64),
    /// A duration: `"30s"`.
    Duration,
    /// A size: `"64KiB"`.
    Size,
    /// A share: `"5%"`.
    Share,
    /// A file's permissions: `"0660"`.
    Mode,
    /// An array of these.
    List(&'static Kind),
    /// One of these.
    AnyOf(&'static [Kind]),
    /// A number, or a table.
    NumberOr(&'static Section),
    /// A value that may be a secret or contain one: never shown.
    Private,
    /// A table with keys of its own choosing, whose values may be secrets.
    PrivateMap,
    /// A table.
    Table(&'static Section),
    /// An array of tables.
    Tables(&'static Section),
    /// Known, but not supported by this version.
    NotYet,
}

use Kind::{NotYet, Plain, Private, PrivateMap, Table, Tables};

impl Section {
    /// What stands at `key`, if this section knows it.
    pub(super) fn kind(&self, key: &str) -> Option<Kind> {
        self.keys
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, kind)| *kind)
    }

    /// The known key that `key` was probably meant to be.
    pub(super) fn nearest(&self, key: &str) -> Option<&'static str> {
        let scored = self
            .keys
            .iter()
            .map(|(name, _)| (*name, strsim::normalized_damerau_levenshtein(name, key)));
        let (name, score) = scored.max_by(|a, b| a.1.total_cmp(&b.1))?;
        (score >= 0.5).then_some(name)
    }

    /// The section at or beneath this one that has `key` and supports it.
    pub(super) fn home_of(&'static self, key: &str) -> Option<&'static Section> {
        if self.kind(key).is_some_and(|kind| !matches!(kind, NotYet)) {
            return Some(self);
        }
        self.keys.iter().find_map(|(_, kind)| match kind {
            Table(section) | Tables(section) => section.home_of(key),
            _ => None,
        })
    }
}

/// The file itself.
pub(super) static FILE: Section = Section {
    name: "",
    keys: &[
        ("include", Plain),
        ("store", Table(&STORE)),
        ("ingest", Table(&INGEST)),
        ("control", Table(&CONTROL)),
        ("log", Table(&LOG)),
        ("limits", Table(&LIMITS)),
        ("network", Table(&NETWORK)),
        ("defaults", Table(&ENDPOINT)),
        ("endpoint", Tables(&ENDPOINT)),
        ("vars", NotYet),
        ("secrets", NotYet),
        ("source", NotYet),
        ("inbound", NotYet),
        ("alerts", NotYet),
    ],
};

/// A file named by `include`.
pub(super) static INCLUDED: Section = Section {
    name: "",
    keys: &[("endpoint", Tables(&ENDPOINT))],
};

static STORE: Section = Section {
    name: "store",
    keys: &[
        ("engine", Plain),
        ("path", Plain),
        ("max_size", Plain),
        ("min_free", Plain),
        ("dedup_window", Plain),
        ("dedup_max", Plain),
        ("attempts_keep", Plain),
        ("attempts_max_size", Plain),
        ("dead_keep", Plain),
        ("postgres", NotYet),
    ],
};

static INGEST: Section = Section {
    name: "ingest",
    keys: &[
        ("socket", Plain),
        ("mode", Plain),
        ("group", Plain),
        ("max_event", Plain),
        ("max_batch", Plain),
        ("max_connections", Plain),
        ("spool", Plain),
        ("allow", NotYet),
    ],
};

static CONTROL: Section = Section {
    name: "control",
    keys: &[
        ("socket", Plain),
        ("mode", Plain),
        ("group", Plain),
        ("listen", NotYet),
        ("token", NotYet),
    ],
};

static LOG: Section = Section {
    name: "log",
    keys: &[("format", Plain), ("level", Plain), ("payloads", Plain)],
};

static LIMITS: Section = Section {
    name: "limits",
    keys: &[("in_flight", Plain), ("shutdown", Plain), ("batch_memory", Plain)],
};

static NETWORK: Section = Section {
    name: "network",
    keys: &[
        ("https_only", Plain),
        ("deny", NotYet),
        ("allow", NotYet),
        ("dns_cache", NotYet),
    ],
};

static ENDPOINT: Section = Section {
    name: "endpoint",
    keys: &[
        ("name", Plain),
        ("description", Plain),
        ("enabled", Plain),
        ("tenant", Plain),
        ("events", Plain),
        ("method", Plain),
        ("url", Private),
        ("allow_http", Plain),
        ("headers", PrivateMap),
        ("timeout", Plain),
        ("connect_timeout", Plain),
        ("max_response", Plain),
        ("concurrency", Plain),
        ("best_effort", Plain),
        ("tls", Table(&TLS)),
        ("sign", Tables(&SIGN)),
        ("response", Table(&RESPONSE)),
        ("retry", Table(&RETRY)),
        ("breaker", Table(&BREAKER)),
        ("use", NotYet),
        ("with", NotYet),
        ("filter", NotYet),
        ("when", NotYet),
        ("skip_reason", NotYet),
        ("bind", NotYet),
        ("urls", NotYet),
        ("balance", NotYet),
        ("fallback_urls", NotYet),
        ("fallback_on", NotYet),
        ("query", NotYet),
        ("follow_redirects", NotYet),
        ("rate", Plain),
        ("order", Plain),
        ("order_key", NotYet),
        ("proxy", NotYet),
        ("route", NotYet),
        ("body", NotYet),
        ("auth", NotYet),
        ("batch", Table(&BATCH)),
        ("step", NotYet),
        ("test", NotYet),
    ],
};

/// The table form of `concurrency`.
pub(super) static CONCURRENCY: Section = Section {
    name: "endpoint.concurrency",
    keys: &[("min", Plain), ("max", Plain)],
};

static TLS: Section = Section {
    name: "endpoint.tls",
    keys: &[
        ("verify", Plain),
        ("ca", Plain),
        ("client_cert", NotYet),
        ("client_key", NotYet),
    ],
};

static SIGN: Section = Section {
    name: "endpoint.sign",
    keys: &[
        ("scheme", Plain),
        ("secrets", Private),
        ("algorithm", NotYet),
        ("encoding", NotYet),
        ("content", NotYet),
        ("header", NotYet),
        ("value", NotYet),
        ("timestamp_header", NotYet),
        ("timestamp", NotYet),
    ],
};

static RESPONSE: Section = Section {
    name: "endpoint.response",
    keys: &[
        ("success_status", Plain),
        ("parse", NotYet),
        ("success", NotYet),
        ("rejected", NotYet),
        ("capture", NotYet),
        ("error", NotYet),
        ("emit", NotYet),
    ],
};

static BATCH: Section = Section {
    name: "endpoint.batch",
    keys: &[
        ("max_events", Plain),
        ("max_bytes", Plain),
        ("max_wait", Plain),
        ("shape", Plain),
        ("wrap", Plain),
        ("items", NotYet),
        ("item_id", NotYet),
        ("item_success", NotYet),
    ],
};

static RETRY: Section = Section {
    name: "endpoint.retry",
    keys: &[
        ("schedule", Plain),
        ("initial", Plain),
        ("factor", Plain),
        ("max", Plain),
        ("delay", Plain),
        ("jitter", Plain),
        ("max_attempts", Plain),
        ("max_age", Plain),
        ("retry_on", Plain),
        ("dont_retry_on", Plain),
        ("max_retry_after", Plain),
    ],
};

static BREAKER: Section = Section {
    name: "endpoint.breaker",
    keys: &[
        ("failures", Plain),
        ("rate", Plain),
        ("window", Plain),
        ("min_requests", Plain),
        ("open", Plain),
        ("max_open", Plain),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named_only_when_it_is_near() {
        assert_eq!(STORE.nearest("pth"), Some("path"));
        assert_eq!(ENDPOINT.nearest("timout"), Some("timeout"));
        assert_eq!(ENDPOINT.nearest("zzz"), None);
        assert_eq!(
            FILE.home_of("jitter").map(|section| section.name),
            Some("endpoint.retry")
        );
    }
}
