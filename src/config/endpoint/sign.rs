//! `[[endpoint.sign]]`: the signatures on each request.

use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::{SignPolicy, SigningKey};

/// Schemes of `[[endpoint.sign]]` that are named in the contract but not built yet.
const SCHEMES_NOT_YET: &[&str] = &[
    "standard-ed25519",
    "github",
    "stripe",
    "shopify",
    "slack",
    "timestamped",
    "canonical",
    "webhook",
    "custom",
];

pub(super) fn sign(table: &Table<'_>) -> Option<SignPolicy> {
    let scheme_works = table.read("scheme", scheme).is_some() || !table.has("scheme");
    let Some(list) = table.value("secrets") else {
        table.missing("secrets");
        return None;
    };
    let items = list.some_items(
        "write it like secrets = [\"${env:CRM_SECRET}\"]",
        "no secret is listed",
    );
    if !scheme_works {
        // Other schemes have secrets of another form.
        return None;
    }
    let keys = items.iter().filter_map(|item| item.read(signing_key)).collect();
    Some(SignPolicy::Standard { keys })
}

fn scheme(value: &Value<'_>) -> Read<()> {
    match &*values::text(value)? {
        "standard" => Ok(()),
        known if SCHEMES_NOT_YET.contains(&known) => Err(Wrong::new(
            "is not supported by this version of posthaste yet",
            "write \"standard\"",
        )),
        _ => Err(Wrong::new("is not known here", "write \"standard\"")),
    }
}

fn signing_key(value: &Value<'_>) -> Read<SigningKey> {
    let text = value.resolved()?.text;
    crate::delivery::sign::parse_secret(&text).map_err(|says| Wrong::whole(says, ""))
}
