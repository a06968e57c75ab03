//! `[endpoint.response]`: what of an answer means delivered.

use crate::config::raw::{Table, Value};
use crate::config::values;
use crate::domain::endpoint::ResponsePolicy;

/// How an answer is read.
pub(super) fn response(table: &Table<'_>) -> ResponsePolicy {
    ResponsePolicy {
        success_status: success_status(table),
    }
}

fn success_status(table: &Table<'_>) -> Vec<u16> {
    let items = table
        .value("success_status")
        .and_then(|list| list.items("write it like [200, 201]"));
    let status = |item: &Value<'_>| {
        item.read(values::count(100..=599))
            .and_then(|status| u16::try_from(status).ok())
    };
    items.unwrap_or_default().iter().filter_map(status).collect()
}
