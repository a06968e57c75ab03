//! Traces: what a trace viewer shows of an event's way, as OpenTelemetry knows it. A trace is continued where the
//! producer's `traceparent` says so, and begun here else ([`context`]); every event accepted and every try at delivering
//! it is a [`span`], made by the [`tracer`] and put into OTLP's own words by `otlp`. Nothing here knows a socket: who
//! takes the spans from the queue and sends them is the daemon's affair.

pub mod context;
#[cfg(feature = "otel")]
pub mod otlp;
pub mod span;
pub mod tracer;
