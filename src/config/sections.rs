//! The daemon's own sections, from written to checked. A key that was not written, or was written wrong
//! (then the problem is noted and the configuration is not used), has the default of its type.

use super::access;
use super::raw::{Table, Value};
use super::source::Place;
use super::values::{self, Read, Wrong};
use super::{
    AlertsConfig, ControlConfig, EVENT_BYTES_MAX, IngestConfig, LimitsConfig, LogConfig, LogFormat,
    NetworkConfig, StoreConfig,
};
use crate::domain::endpoint::Settings;
use crate::domain::network::{AddressPolicy, AddressRange, NetworkPolicy};
use crate::domain::outcome::Detail;
use crate::template::Secrets;

/// Longest line that may be allowed for a batch, in bytes: it is held in memory once for each connection.
const BATCH_BYTES_MAX: u64 = 64 << 20;

/// Largest attempt log, in bytes; a few dozen bytes of memory are held for each file of it.
const ATTEMPTS_BYTES_MAX: u64 = 16 << 30;

/// `[store]`
pub(super) fn store(table: &Table<'_>) -> StoreConfig {
    let default = StoreConfig::default();
    table.read("engine", engine);
    StoreConfig {
        path: table.read("path", values::path).unwrap_or(default.path),
        size_bytes_max: table
            .read("max_size", values::size(1..=u64::MAX))
            .unwrap_or(default.size_bytes_max),
        free_min: table
            .read("min_free", values::free_min)
            .unwrap_or(default.free_min),
        dedup_window: table
            .read("dedup_window", values::some_duration)
            .unwrap_or(default.dedup_window),
        dedup_ids_max: table
            .read("dedup_max", values::count(1..=100_000_000))
            .map_or(default.dedup_ids_max, |count| count as usize),
        attempts_keep: table
            .read("attempts_keep", values::some_duration)
            .unwrap_or(default.attempts_keep),
        attempts_bytes_max: table
            .read("attempts_max_size", values::size(0..=ATTEMPTS_BYTES_MAX))
            .unwrap_or(default.attempts_bytes_max),
        attempts_detail: table
            .read("attempts_detail", values::choice(Detail::NAMES))
            .unwrap_or(default.attempts_detail),
        dead_keep: table
            .read("dead_keep", values::some_duration)
            .unwrap_or(default.dead_keep),
    }
}

fn engine(value: &Value<'_>) -> Read<()> {
    match &*values::text(value)? {
        "sled" => Ok(()),
        "postgres" => Err(Wrong::new(
            "is not supported by this version of posthaste yet",
            "write \"sled\"",
        )),
        _ => Err(Wrong::new("is not known here", "write \"sled\"")),
    }
}

/// `[ingest]`
pub(super) fn ingest(table: &Table<'_>) -> IngestConfig {
    let default = IngestConfig::default();
    let bytes = |key, max| {
        table
            .read(key, values::size(64..=max))
            .and_then(|bytes| usize::try_from(bytes).ok())
    };
    IngestConfig {
        socket: table
            .read("socket", values::socket_path)
            .unwrap_or(default.socket),
        mode: table.read("mode", values::mode).unwrap_or(default.mode),
        group: table.read("group", values::text).unwrap_or(default.group),
        event_bytes_max: bytes("max_event", EVENT_BYTES_MAX).unwrap_or(default.event_bytes_max),
        batch_bytes_max: bytes("max_batch", BATCH_BYTES_MAX).unwrap_or(default.batch_bytes_max),
        connections_max: table
            .read("max_connections", values::count(1..=65_536))
            .map_or(default.connections_max, |count| count as usize),
        allow: access::allow(table),
        spool: table.read("spool", spool).unwrap_or(default.spool),
    }
}

fn spool(value: &super::raw::Value<'_>) -> Read<Option<std::path::PathBuf>> {
    match &*values::text(value)? {
        "" => Ok(None),
        _ => values::path(value).map(Some),
    }
}

/// `[control]`
pub(super) fn control(table: &Table<'_>) -> ControlConfig {
    let default = ControlConfig::default();
    let (listen, token) = access::tcp(table);
    ControlConfig {
        socket: table
            .read("socket", values::socket_path)
            .unwrap_or(default.socket),
        mode: table.read("mode", values::mode).unwrap_or(default.mode),
        group: table.read("group", values::text).unwrap_or(default.group),
        operators: access::people(table, "operators"),
        readers: access::people(table, "readers"),
        listen,
        token,
    }
}

/// `[log]`
pub(super) fn log(table: &Table<'_>) -> LogConfig {
    let default = LogConfig::default();
    LogConfig {
        format: table
            .read("format", values::choice(LogFormat::NAMES))
            .unwrap_or(default.format),
        level: table.read("level", level).unwrap_or(default.level),
        payloads: table.read("payloads", Value::flag).unwrap_or(default.payloads),
    }
}

fn level(value: &Value<'_>) -> Read<String> {
    let text = values::text(value)?;
    match tracing_subscriber::EnvFilter::builder().parse(&text) {
        Ok(_) if !text.is_empty() => Ok(text),
        _ => Err(Wrong::new(
            "is not a log level",
            "write error, warn, info, debug or trace",
        )),
    }
}

/// `[limits]`
pub(super) fn limits(table: &Table<'_>) -> LimitsConfig {
    let default = LimitsConfig::default();
    LimitsConfig {
        in_flight_max: table
            .read("in_flight", values::count(1..=65_536))
            .map_or(default.in_flight_max, |count| count as usize),
        batch_bytes_max: table
            .read("batch_memory", values::size(1 << 20..=u64::MAX))
            .unwrap_or(default.batch_bytes_max),
        shutdown: table
            .read("shutdown", values::duration)
            .unwrap_or(default.shutdown),
    }
}

/// `[network]`
pub(super) fn network(table: &Table<'_>) -> NetworkConfig {
    let default = NetworkConfig::default();
    let ranges = |key, default| table.value(key).map_or(default, |list| ranges(&list));
    NetworkConfig {
        https_only: table
            .read("https_only", super::raw::Value::flag)
            .unwrap_or(default.https_only),
        policy: NetworkPolicy {
            addresses: AddressPolicy {
                deny: ranges("deny", default.policy.addresses.deny),
                allow: ranges("allow", default.policy.addresses.allow),
            },
            dns_cache: table
                .read("dns_cache", values::duration)
                .unwrap_or(default.policy.dns_cache),
        },
    }
}

fn ranges(list: &super::raw::Value<'_>) -> Vec<AddressRange> {
    let items = list.items("write it like [\"link-local\", \"10.0.0.0/8\"]");
    let items = items.unwrap_or_default();
    items.iter().filter_map(|item| item.read(range)).collect()
}

fn range(value: &super::raw::Value<'_>) -> Read<AddressRange> {
    AddressRange::parse(&values::text(value)?).ok_or_else(|| {
        let help = format!(
            "write one of {}, or a block like 10.0.0.0/8",
            AddressRange::groups().join(" ")
        );
        Wrong::new("is no range of addresses", help)
    })
}

/// `[vars]` and `[secrets]`: what templates and expressions read under these names.
pub(super) fn settings(file: &Table<'_>) -> Settings {
    let mut vars = serde_json::Map::new();
    for (place, name, value) in file.entries("vars") {
        check_name(&place, name, &value);
        if let Some(json) = value.read(Value::json) {
            vars.insert(name.to_owned(), json);
        }
    }
    let mut secrets: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (place, name, value) in file.entries("secrets") {
        check_name(&place, name, &value);
        if let Some(secret) = value.read(secret) {
            secrets.push((name.into(), secret.into()));
        }
    }
    Settings::new(vars.into(), Secrets::new(secrets))
}

fn secret(value: &Value<'_>) -> Read<String> {
    let resolved = value.masked()?;
    if !resolved.has_reference {
        value.warn(&Wrong::whole(
            "a secret is written into the file",
            "keep it elsewhere: \"${env:NAME}\", \"${file:/path}\" or \"${cred:NAME}\"",
        ));
    }
    Ok(resolved.text)
}

/// A name that can stand behind `vars.` or `secrets.`.
fn check_name(place: &Place, name: &str, value: &Value<'_>) {
    let is_name = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.is_empty();
    if !is_name {
        value.reject_at(
            place,
            &Wrong::whole(
                "templates can't name it",
                "use letters, digits and _, and begin with a letter",
            ),
        );
    }
}

/// `[alerts]`
pub(super) fn alerts(table: &Table<'_>) -> AlertsConfig {
    let default = AlertsConfig::default();
    AlertsConfig {
        response_time_p95: table
            .read("response_time_p95", values::duration)
            .unwrap_or(default.response_time_p95),
        error_rate: table
            .read("error_rate", values::number(0.0..=1.0))
            .unwrap_or(default.error_rate),
        auth_failures: table
            .read("auth_failures", values::count(0..=1_000_000))
            .unwrap_or(default.auth_failures),
        failing_for: table
            .read("failing_for", values::duration)
            .unwrap_or(default.failing_for),
        dead_letters: table
            .read("dead_letters", values::count(0..=100_000_000))
            .unwrap_or(default.dead_letters),
    }
}
