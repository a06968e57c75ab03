//! Every metric, by name: the numbers of the status in the Prometheus text format 0.0.4. Names follow its
//! conventions (base units, `_total` for counters). Knows the status and nothing behind it, so the metrics,
//! the API and the command line can never disagree.

use std::fmt::Write;

use crate::control::types::{EndpointRow, EndpointState, Health, Status};
use crate::domain::time::Timestamp;

/// The whole text.
#[must_use]
pub fn exposition(status: &Status) -> String {
    let mut text = Exposition::default();
    daemon(&mut text, status);
    store(&mut text, status);
    ingest(&mut text, status);
    queues(&mut text, status);
    attempts(&mut text, status);
    requests(&mut text, status);
    alerts(&mut text, status);
    traces(&mut text, status);
    text.0
}

/// The text while it grows. Samples of one metric follow its header without others in between.
#[derive(Debug, Default)]
struct Exposition(String);

impl Exposition {
    /// Begins a metric.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escape(text));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A metric with one sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    /// A metric with one sample for each endpoint.
    fn per_endpoint(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        rows: &[EndpointRow],
        value: impl Fn(&EndpointRow) -> f64,
    ) {
        self.metric(name, kind, help);
        for row in rows {
            self.sample(name, &[("endpoint", &row.name)], value(row));
        }
    }
}

/// Label values: backslash, quote and line feed are escaped (text format 0.0.4).
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

fn daemon(text: &mut Exposition, status: &Status) {
    text.metric(
        "posthaste_info",
        "gauge",
        "Version and configuration in force; always 1.",
    );
    let labels = [
        ("version", status.version.as_str()),
        ("config_hash", &status.config_hash),
    ];
    text.sample("posthaste_info", &labels, 1.0);
    text.single(
        "posthaste_uptime_seconds",
        "gauge",
        "How long the daemon has been running.",
        status.uptime_ms as f64 / 1000.0,
    );
    let healthy = status.health == Health::Ok;
    text.single(
        "posthaste_healthy",
        "gauge",
        "1 while events are taken and delivered.",
        f64::from(u8::from(healthy)),
    );
}

fn store(text: &mut Exposition, status: &Status) {
    let store = &status.store;
    for (name, kind, help, value) in [
        ("posthaste_store_events", "gauge", "Events kept.", store.events),
        (
            "posthaste_store_live_bytes",
            "gauge",
            "Bytes of the events kept.",
            store.live_bytes,
        ),
        (
            "posthaste_store_disk_bytes",
            "gauge",
            "Bytes on disk.",
            store.disk_bytes,
        ),
        (
            "posthaste_store_free_bytes",
            "gauge",
            "Bytes free on the file system.",
            store.free_bytes,
        ),
        (
            "posthaste_store_blob_files",
            "gauge",
            "Files that are never synced; anything but 0 is a bug.",
            store.blob_files,
        ),
        (
            "posthaste_store_quarantined",
            "gauge",
            "Records set aside as damaged.",
            store.quarantined,
        ),
        (
            "posthaste_store_commits_total",
            "counter",
            "Durable commits.",
            store.commits,
        ),
        (
            "posthaste_store_dedup_ids",
            "gauge",
            "Ids remembered for deduplication.",
            store.dedup_ids,
        ),
        (
            "posthaste_store_attempts_bytes",
            "gauge",
            "Bytes of the log of attempts on disk.",
            store.attempts_bytes,
        ),
        (
            "posthaste_store_attempts_dropped_total",
            "counter",
            "Attempts that could not be logged.",
            store.attempts_dropped,
        ),
        (
            "posthaste_store_refusing",
            "gauge",
            "1 while new events are refused for want of room.",
            u64::from(store.refusing.is_some()),
        ),
    ] {
        text.single(name, kind, help, value as f64);
    }
}

fn ingest(text: &mut Exposition, status: &Status) {
    let ingest = &status.ingest;
    for (name, kind, help, value) in [
        (
            "posthaste_ingest_connections",
            "gauge",
            "Producers connected.",
            ingest.connections,
        ),
        (
            "posthaste_ingest_connections_total",
            "counter",
            "Connections of producers.",
            ingest.connections_total,
        ),
        (
            "posthaste_ingest_accepted_total",
            "counter",
            "Events accepted.",
            ingest.accepted,
        ),
        (
            "posthaste_ingest_duplicates_total",
            "counter",
            "Events answered as duplicates.",
            ingest.duplicates,
        ),
        (
            "posthaste_ingest_bytes_total",
            "counter",
            "Bytes read from producers.",
            ingest.bytes,
        ),
    ] {
        text.single(name, kind, help, value as f64);
    }
    let name = "posthaste_ingest_rejected_total";
    text.metric(name, "counter", "Lines rejected, by the code of the answer.");
    for (code, count) in &ingest.rejected {
        text.sample(name, &[("code", code)], *count as f64);
    }
}

fn queues(text: &mut Exposition, status: &Status) {
    let rows = &status.endpoints;
    let age = |oldest: Option<Timestamp>| oldest.map_or(0.0, |oldest| status.now.since(oldest).as_secs_f64());
    let gauge = "gauge";
    text.per_endpoint("posthaste_pending", gauge, "Deliveries owed.", rows, |row| {
        row.pending as f64
    });
    text.per_endpoint(
        "posthaste_deferred",
        gauge,
        "Deliveries that wait for a later try.",
        rows,
        |row| row.deferred as f64,
    );
    text.per_endpoint("posthaste_dead", gauge, "Dead letters.", rows, |row| {
        row.dead as f64
    });
    text.per_endpoint(
        "posthaste_oldest_age_seconds",
        gauge,
        "Age of the oldest event still owed; 0 when nothing is.",
        rows,
        |row| age(row.oldest),
    );
    text.per_endpoint("posthaste_in_flight", gauge, "Requests under way.", rows, |row| {
        f64::from(row.in_flight)
    });
    text.per_endpoint(
        "posthaste_in_flight_limit",
        gauge,
        "Requests that may be under way.",
        rows,
        |row| f64::from(row.limit),
    );
    let name = "posthaste_endpoint_state";
    text.metric(name, gauge, "1 for the state the endpoint is in.");
    for row in rows {
        for &(state_name, state) in EndpointState::NAMES {
            let labels = [("endpoint", row.name.as_str()), ("state", state_name)];
            text.sample(name, &labels, f64::from(u8::from(row.state == state)));
        }
    }
}

fn attempts(text: &mut Exposition, status: &Status) {
    let name = "posthaste_attempts_total";
    text.metric(name, "counter", "Attempts that ended, by outcome.");
    for row in &status.endpoints {
        for (outcome, count) in [
            ("delivered", row.attempts.delivered),
            ("rejected", row.attempts.rejected),
            ("error", row.attempts.failed),
        ] {
            text.sample(
                name,
                &[("endpoint", &row.name), ("outcome", outcome)],
                count as f64,
            );
        }
    }
    let name = "posthaste_attempt_errors_total";
    text.metric(
        name,
        "counter",
        "Attempts that ended in a technical error, by its class.",
    );
    for row in &status.endpoints {
        for (class, count) in &row.attempts.errors {
            text.sample(name, &[("endpoint", &row.name), ("class", class)], *count as f64);
        }
    }
    text.per_endpoint(
        "posthaste_expired_total",
        "counter",
        "Deliveries given up because their event had expired.",
        &status.endpoints,
        |row| row.attempts.expired as f64,
    );
    text.per_endpoint(
        "posthaste_skipped_total",
        "counter",
        "Deliveries settled without a request because `when` was false.",
        &status.endpoints,
        |row| row.attempts.skipped as f64,
    );
    text.per_endpoint(
        "posthaste_unkeyed_total",
        "counter",
        "Events read whose order_key could not be worked out.",
        &status.endpoints,
        |row| row.attempts.unkeyed as f64,
    );
    let name = "posthaste_attempt_duration_seconds";
    text.metric(name, "summary", "How long attempts of the last minute took.");
    for row in &status.endpoints {
        for (quantile, ms) in [
            ("0.5", row.attempts.p50_ms),
            ("0.95", row.attempts.p95_ms),
            ("0.99", row.attempts.p99_ms),
        ] {
            if let Some(ms) = ms {
                let labels = [("endpoint", row.name.as_str()), ("quantile", quantile)];
                text.sample(name, &labels, ms as f64 / 1000.0);
            }
        }
    }
}

fn alerts(text: &mut Exposition, status: &Status) {
    let name = "posthaste_alert";
    text.metric(
        name,
        "gauge",
        "1 for each limit of [alerts] that an endpoint is past.",
    );
    for alert in &status.alerts {
        let labels = [("endpoint", alert.endpoint.as_str()), ("alert", &alert.alert)];
        text.sample(name, &labels, 1.0);
    }
}

/// Only where there are traces.
fn traces(text: &mut Exposition, status: &Status) {
    let Some(traces) = &status.traces else {
        return;
    };
    text.single(
        "posthaste_trace_spans_exported_total",
        "counter",
        "Spans that the receiver of traces took.",
        traces.exported as f64,
    );
    text.single(
        "posthaste_trace_spans_dropped_total",
        "counter",
        "Spans lost: more than could be sent, or not taken by the receiver of traces.",
        traces.dropped as f64,
    );
}

fn requests(text: &mut Exposition, status: &Status) {
    let name = "posthaste_request_phase_seconds_total";
    text.metric(
        name,
        "counter",
        "Time that requests spent in each phase: dns, connect, tls, first_byte, body.",
    );
    for row in &status.endpoints {
        for (phase, seconds) in &row.attempts.phase_seconds {
            text.sample(name, &[("endpoint", &row.name), ("phase", phase)], *seconds);
        }
    }
    let name = "posthaste_requests_total";
    text.metric(
        name,
        "counter",
        "Requests by the connection they went over: a new one, or one that was open already.",
    );
    for row in &status.endpoints {
        for (connection, count) in [
            ("new", row.attempts.connections_opened),
            ("reused", row.attempts.connections_reused),
        ] {
            text.sample(
                name,
                &[("endpoint", &row.name), ("connection", connection)],
                count as f64,
            );
        }
    }
}
