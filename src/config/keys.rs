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
    /// A table with keys of its own choosing, whose values may be shown.
    Map,
    /// The same, but its values may be secrets.
    PrivateMap,
    /// A table.
    Table(&'static Section),
    /// An array of tables.
    Tables(&'static Section),
    /// Known, but not supported by this version.
    NotYet,
}

use Kind::{
    AnyOf, Count, Duration, Flag, List, Map, Mode, NotYet, Number, NumberOr, Plain, Private, PrivateMap,
    Share, Size, Table, Tables, Text, Word,
};

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
        ("include", List(&Text)),
        ("store", Table(&STORE)),
        ("ingest", Table(&INGEST)),
        ("control", Table(&CONTROL)),
        ("log", Table(&LOG)),
        ("limits", Table(&LIMITS)),
        ("network", Table(&NETWORK)),
        ("defaults", Table(&ENDPOINT)),
        ("endpoint", Tables(&ENDPOINT)),
        ("vars", Map),
        ("secrets", PrivateMap),
        ("source", NotYet),
        ("inbound", NotYet),
        ("alerts", Table(&ALERTS)),
        ("traces", Table(&TRACES)),
    ],
};

/// A file named by `include`.
pub(super) static INCLUDED: Section = Section {
    name: "",
    keys: &[("endpoint", Tables(&ENDPOINT))],
};

/// An integration module.
pub(super) static MODULE: Section = Section {
    name: "module",
    keys: &[
        ("description", Text),
        ("variables", Map),
        ("endpoint", Table(&ENDPOINT)),
    ],
};

/// What a module says of one of its variables.
pub(super) static VARIABLE: Section = Section {
    name: "variables",
    keys: &[
        ("type", Text),
        ("required", Flag),
        ("default", Plain),
        ("description", Text),
        ("secret", Flag),
    ],
};

static TRACES: Section = Section {
    name: "traces",
    keys: &[
        ("endpoint", Private),
        ("sample", Number(0.0, 1.0)),
        ("service_name", Text),
        ("headers", PrivateMap),
    ],
};

static STORE: Section = Section {
    name: "store",
    keys: &[
        ("engine", Word(&["sled", "postgres"])),
        ("path", Text),
        ("max_size", Size),
        ("min_free", AnyOf(&[Share, Size])),
        ("dedup_window", Duration),
        ("dedup_max", Count(1, 100_000_000)),
        ("attempts_keep", Duration),
        ("attempts_max_size", Size),
        ("attempts_detail", Word(&["failed", "all"])),
        ("dead_keep", Duration),
        ("postgres", NotYet),
    ],
};

static INGEST: Section = Section {
    name: "ingest",
    keys: &[
        ("socket", Text),
        ("mode", Mode),
        ("group", Text),
        ("max_event", Size),
        ("max_batch", Size),
        ("max_connections", Count(1, 65_536)),
        ("spool", Text),
        ("allow", Tables(&ALLOW)),
    ],
};

static ALLOW: Section = Section {
    name: "ingest.allow",
    keys: &[
        ("user", Text),
        ("group", Text),
        ("uid", Count(0, u32::MAX as u64 - 1)),
        ("gid", Count(0, u32::MAX as u64 - 1)),
        ("types", List(&Text)),
        ("rate", Text),
    ],
};

static CONTROL: Section = Section {
    name: "control",
    keys: &[
        ("socket", Text),
        ("mode", Mode),
        ("group", Text),
        ("operators", List(&Text)),
        ("readers", List(&Text)),
        ("listen", Text),
        ("token", Private),
    ],
};

static LOG: Section = Section {
    name: "log",
    keys: &[
        ("format", Word(&["auto", "text", "json", "journald"])),
        ("level", Text),
        ("payloads", Flag),
    ],
};

static LIMITS: Section = Section {
    name: "limits",
    keys: &[
        ("in_flight", Count(1, 65_536)),
        ("shutdown", Duration),
        ("batch_memory", Size),
    ],
};

static NETWORK: Section = Section {
    name: "network",
    keys: &[
        ("https_only", Flag),
        ("deny", List(&Text)),
        ("allow", List(&Text)),
        ("dns_cache", Duration),
    ],
};

static ALERTS: Section = Section {
    name: "alerts",
    keys: &[
        ("response_time_p95", Duration),
        ("error_rate", Number(0.0, 1.0)),
        ("auth_failures", Count(0, 1_000_000)),
        ("failing_for", Duration),
        ("dead_letters", Count(0, 100_000_000)),
    ],
};

static ENDPOINT: Section = Section {
    name: "endpoint",
    keys: &[
        ("name", Text),
        ("description", Text),
        ("enabled", Flag),
        ("tenant", Text),
        ("events", List(&Text)),
        ("filter", Map),
        ("when", Text),
        ("skip_reason", Text),
        ("bind", Text),
        ("method", Text),
        ("url", Private),
        ("allow_http", Flag),
        ("headers", PrivateMap),
        ("timeout", Duration),
        ("connect_timeout", Duration),
        ("max_response", Size),
        ("concurrency", NumberOr(&CONCURRENCY)),
        ("best_effort", Flag),
        ("tls", Table(&TLS)),
        ("sign", Tables(&SIGN)),
        ("response", Table(&RESPONSE)),
        ("retry", Table(&RETRY)),
        ("breaker", Table(&BREAKER)),
        ("use", Text),
        ("with", Map),
        ("urls", Private),
        ("balance", Word(&["round_robin", "random", "healthy"])),
        ("fallback_urls", Private),
        ("fallback_on", List(&AnyOf(&[Text, Count(100, 599)]))),
        ("query", PrivateMap),
        ("follow_redirects", Count(0, 10)),
        ("rate", Text),
        ("order", Word(&["none", "endpoint", "key"])),
        ("order_key", Text),
        ("proxy", Private),
        ("route", Tables(&ROUTE)),
        ("body", Table(&BODY)),
        ("auth", Table(&AUTH)),
        ("batch", Table(&BATCH)),
        ("step", Tables(&STEP)),
        ("test", Tables(&TEST)),
    ],
};

static TEST: Section = Section {
    name: "endpoint.test",
    keys: &[("name", Text), ("event", Text), ("expect", Text), ("steps", Map)],
};

/// What a step is answered in a case.
pub(super) static CANNED: Section = Section {
    name: "endpoint.test.steps",
    keys: &[("status", Count(100, 599)), ("body", Plain)],
};

static STEP: Section = Section {
    name: "endpoint.step",
    keys: &[
        ("name", Text),
        ("stage", Word(&["before", "after"])),
        ("when", Text),
        ("after", List(&Text)),
        ("method", Text),
        ("url", Private),
        ("urls", Private),
        ("balance", Word(&["round_robin", "random", "healthy"])),
        ("fallback_urls", Private),
        ("fallback_on", List(&AnyOf(&[Text, Count(100, 599)]))),
        ("allow_http", Flag),
        ("query", PrivateMap),
        ("headers", PrivateMap),
        ("timeout", Duration),
        ("connect_timeout", Duration),
        ("max_response", Size),
        ("follow_redirects", Count(0, 10)),
        ("proxy", Private),
        ("tls", Table(&TLS)),
        ("body", Table(&BODY)),
        ("auth", Table(&AUTH)),
        ("sign", Tables(&SIGN)),
        ("response", Table(&RESPONSE)),
        ("retry", Count(0, 5)),
        ("store", Map),
        ("cache", Table(&CACHE)),
        ("on_error", Word(&["fail", "default", "cached", "skip"])),
        ("default", Map),
        ("flag", Text),
    ],
};

static CACHE: Section = Section {
    name: "endpoint.step.cache",
    keys: &[("key", Text), ("ttl", Duration), ("max_age", Duration)],
};

static ROUTE: Section = Section {
    name: "endpoint.route",
    keys: &[
        ("when", Text),
        ("url", Private),
        ("timeout", Duration),
        ("method", Text),
        ("headers", PrivateMap),
    ],
};

static BODY: Section = Section {
    name: "endpoint.body",
    keys: &[
        (
            "format",
            Word(&[
                "event",
                "cloudevents",
                "envelope",
                "data",
                "json",
                "form",
                "xml",
                "soap",
                "csv",
                "delimited",
                "fixed",
                "text",
                "none",
            ]),
        ),
        ("fields", Map),
        ("order", List(&Text)),
        ("widths", Map),
        ("delimiter", Text),
        ("template", Private),
        ("content_type", Text),
        ("compress", Word(&["none", "gzip", "zstd"])),
        ("wrap", Text),
    ],
};

/// The table form of `concurrency`.
pub(super) static CONCURRENCY: Section = Section {
    name: "endpoint.concurrency",
    keys: &[("min", Count(1, 1024)), ("max", Count(1, 1024))],
};

static TLS: Section = Section {
    name: "endpoint.tls",
    keys: &[
        ("verify", Flag),
        ("ca", Text),
        ("client_cert", Text),
        ("client_key", Private),
    ],
};

static SIGN: Section = Section {
    name: "endpoint.sign",
    keys: &[
        ("scheme", Text),
        ("secrets", Private),
        ("algorithm", Word(&["sha256", "sha512", "sha1"])),
        ("encoding", Word(&["hex", "base64"])),
        ("content", Text),
        ("header", Text),
        ("value", Text),
        ("timestamp_header", Text),
        ("timestamp", Word(&["unix", "unix_ms", "rfc3339"])),
    ],
};

/// The table form of a secret that signs.
pub(super) static SIGN_SECRET: Section = Section {
    name: "endpoint.sign.secrets",
    keys: &[("secret", Private), ("until", Text)],
};

pub(super) static AUTH: Section = Section {
    name: "endpoint.auth",
    keys: &[
        (
            "type",
            Word(&["none", "api_key", "bearer", "basic", "oauth2", "rotating"]),
        ),
        ("name", Text),
        ("in", Word(&["header", "query"])),
        ("value", Private),
        ("token", Private),
        ("username", Private),
        ("password", Private),
        ("token_url", Private),
        ("client_id", Private),
        ("client_secret", Private),
        ("scope", Text),
        ("grant", Word(&["client_credentials", "refresh_token"])),
        ("refresh_token", Private),
        ("auth_style", Word(&["body", "basic"])),
        ("params", PrivateMap),
        ("header", Text),
        ("values", Private),
        ("version_header", Text),
        ("rotate", Word(&["on_401", "each_request"])),
    ],
};

/// The table form of a token among others.
pub(super) static ROTATING_VALUE: Section = Section {
    name: "endpoint.auth.values",
    keys: &[("value", Private), ("version", Text)],
};

static RESPONSE: Section = Section {
    name: "endpoint.response",
    keys: &[
        ("success_status", List(&Count(100, 599))),
        ("parse", Word(&["auto", "json", "xml", "text", "none"])),
        ("success", Text),
        ("rejected", Text),
        ("capture", Map),
        ("error", Table(&RESPONSE_ERROR)),
        ("emit", Table(&EMIT)),
    ],
};

static RESPONSE_ERROR: Section = Section {
    name: "endpoint.response.error",
    keys: &[("code", Text), ("message", Text), ("field", Text)],
};

static EMIT: Section = Section {
    name: "endpoint.response.emit",
    keys: &[("type", Text), ("data", Map)],
};

static BATCH: Section = Section {
    name: "endpoint.batch",
    keys: &[
        ("max_events", Count(1, 10_000)),
        ("max_bytes", Size),
        ("max_wait", Duration),
        ("shape", Word(&["array", "ndjson", "wrapped", "template"])),
        ("items", Text),
        ("item_id", Text),
        ("item_success", Text),
    ],
};

static RETRY: Section = Section {
    name: "endpoint.retry",
    keys: &[
        ("schedule", List(&Duration)),
        ("initial", Duration),
        ("factor", Number(1.0, f64::MAX)),
        ("max", Duration),
        ("delay", Duration),
        ("jitter", Number(0.0, 1.0)),
        ("max_attempts", Count(1, 1_000_000)),
        ("max_age", Duration),
        ("retry_on", List(&AnyOf(&[Text, Count(100, 599)]))),
        ("dont_retry_on", List(&AnyOf(&[Text, Count(100, 599)]))),
        ("max_retry_after", Duration),
    ],
};

static BREAKER: Section = Section {
    name: "endpoint.breaker",
    keys: &[
        ("failures", Count(1, 1_000_000)),
        ("rate", Number(0.0, 1.0)),
        ("window", Duration),
        ("min_requests", Count(1, 1_000_000)),
        ("open", Duration),
        ("max_open", Duration),
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
