//! The JSON of the control API, both ways: what the server writes is what the command line reads, and what
//! scripts may rely on. Fields are added, never renamed or dropped. Instants are RFC 3339 in UTC, durations
//! are numbers whose name carries the unit, or texts as in config.toml (`"30s"`) where they come from there.

pub mod attempt;
pub mod config;
pub mod dead;
pub mod event;
pub mod ingest;
pub mod live;
mod schema;
pub mod status;
pub mod trial;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use schema::Instant;

pub use attempt::{ExchangeView, LoggedAttemptView};
pub use config::{ConfigView, ReloadReport};
pub use dead::{AttemptView, Change, ChangeReport, DeadLetterView, DeadSelect, StepNoteView};
pub use event::{DeliveryView, EventView};
pub use ingest::IngestAnswer;
pub use live::{LiveDead, LiveEvent, LiveRates, LiveRow, LiveState};
pub use status::{
    AlertView, DefinedIn, EndpointRow, EndpointState, EndpointView, Health, IngestNumbers, LaneNumbers,
    Status, StoreNumbers, Totals, TraceNumbers,
};

pub use trial::{
    ExplainRequest, ExplainedEndpoint, ExplainedStep, Explanation, RequestView, TestRequest, TestView,
};

/// A page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Pass as `cursor` to go on; absent: that was all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Every answer that is not a success: `{"error":{"code":"…","message":"…"}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorDetail,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDetail {
    /// For programs: one of a fixed set of snake_case words.
    pub code: String,
    /// For people: what, where and how to mend it.
    pub message: String,
    /// Every single problem, where there can be several (a refused reload).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// `POST /v1/endpoints/{name}/pause`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Why, for whoever finds the endpoint paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// After so long it resumes by itself (`"2h"`); absent: until someone resumes it.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub pause_for: Option<String>,
}

/// `POST /v1/endpoints/{name}/move`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The configured endpoint that takes over what is owed.
    pub to: String,
}

/// `POST /v1/endpoints/{name}/bury`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuryRequest {
    /// Why, for the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer to flush, move and bury.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moved {
    /// How many deliveries it concerned.
    pub deliveries: u64,
}

/// The answer to `DELETE /v1/endpoints/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Removed {
    /// The endpoint that is gone.
    pub name: String,
    /// Deliveries it is still owed; they stay, as orphaned.
    pub deliveries: u64,
    /// Its dead letters, which stay as well.
    pub dead: u64,
}

/// A record that would not decode, set aside. `GET /v1/quarantine`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuarantinedView {
    /// When it was found.
    #[serde(with = "rfc3339")]
    #[schemars(with = "Instant")]
    pub found: crate::domain::time::Timestamp,
    /// What kind of record it was, and where.
    pub what: String,
    /// Why it would not decode.
    pub why: String,
    /// How many of its bytes are kept.
    pub bytes: u64,
    /// The kept bytes, base64.
    pub base64: String,
}

/// [`crate::domain::time::Timestamp`] as RFC 3339 text, for `#[serde(with = "rfc3339")]`.
pub mod rfc3339 {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::domain::time::Timestamp;

    /// Writes the instant.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(instant: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(instant)
    }

    /// Reads an instant.
    ///
    /// # Errors
    /// When the text is not RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Timestamp::parse_rfc3339(&text)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is not an RFC 3339 date and time")))
    }

    /// The same for an instant that may be absent (`null`).
    pub mod option {
        use serde::{Deserialize, Deserializer, Serializer};

        use crate::domain::time::Timestamp;

        /// Writes the instant or `null`.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(
            instant: &Option<Timestamp>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match instant {
                Some(instant) => serializer.collect_str(instant),
                None => serializer.serialize_none(),
            }
        }

        /// Reads an instant or `null`.
        ///
        /// # Errors
        /// When the text is not RFC 3339.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            #[derive(Deserialize)]
            struct Instant(#[serde(with = "super")] Timestamp);
            Ok(Option::<Instant>::deserialize(deserializer)?.map(|instant| instant.0))
        }
    }
}
