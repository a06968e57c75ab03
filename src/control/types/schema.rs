//! The schemas of values that the domain writes as texts: for the API's description alone, never made.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::domain::delivery::DeadReason;
use crate::domain::names;
use crate::domain::outcome::ErrorClass;

/// An instant.
pub enum Instant {}

impl JsonSchema for Instant {
    fn schema_name() -> Cow<'static, str> {
        "Instant".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "description": "RFC 3339, in UTC" })
    }
}

/// Why a delivery is dead.
pub enum Reason {}

impl JsonSchema for Reason {
    fn schema_name() -> Cow<'static, str> {
        "DeadReason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": names::list(DeadReason::NAMES) })
    }
}

/// The kind of an error.
pub enum Class {}

impl JsonSchema for Class {
    fn schema_name() -> Cow<'static, str> {
        "ErrorClass".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": names::list(ErrorClass::NAMES) })
    }
}
