//! `[[endpoint.sign]]`: the signatures on each request.

use http::HeaderName;

use crate::config::keys;
use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::delivery::sign as signing;
use crate::domain::endpoint::{
    CustomSign, HmacHash, Preset, SignPolicy, SignScheme, SignatureEncoding, SigningKey, SigningSecret,
    TimestampFormat,
};
use crate::domain::names::{self, called};
use crate::domain::time::Timestamp;

/// What only a scheme of one's own spells out.
const CUSTOM_KEYS: &[&str] = &[
    "algorithm",
    "encoding",
    "content",
    "header",
    "value",
    "timestamp_header",
    "timestamp",
];

const CONTENT_DEFAULT: &str = "{{ body }}";
const VALUE_DEFAULT: &str = "{{ signature }}";

/// `scheme` as far as it decides what the other keys mean.
#[derive(Clone, Copy)]
enum Named {
    Preset(Preset),
    Custom,
}

/// Those of them that are templates.
const TEMPLATE_KEYS: &[&str] = &["content", "value"];

pub(super) fn sign(table: &Table<'_>) -> Option<SignPolicy> {
    if table.refuse_templates_but(TEMPLATE_KEYS) {
        return None;
    }
    let named = match table.value("scheme") {
        Some(value) => value.read(scheme),
        None => Some(Named::Preset(Preset::Standard)),
    };
    let scheme = named.and_then(|named| match named {
        Named::Preset(preset) => {
            refuse_custom_keys(table, preset);
            Some(SignScheme::Preset(preset))
        }
        Named::Custom => custom(table).map(|custom| SignScheme::Custom(Box::new(custom))),
    });
    let Some(list) = table.value("secrets") else {
        table.missing("secrets");
        return None;
    };
    let items = list.some_items(
        "write it like secrets = [\"${env:CRM_SECRET}\"]",
        "no secret is listed",
    );
    // Each scheme has secrets of another form.
    let named = named?;
    let secrets = items.iter().filter_map(|item| secret(item, named)).collect();
    scheme.map(|scheme| SignPolicy { scheme, secrets })
}

fn scheme(value: &Value<'_>) -> Read<Named> {
    let text = values::text(value)?;
    if text == "custom" {
        return Ok(Named::Custom);
    }
    called(Preset::NAMES, &text).map(Named::Preset).ok_or_else(|| {
        let known = names::list(Preset::NAMES).join(" ");
        Wrong::new("is not known here", format!("write one of {known} custom"))
    })
}

fn refuse_custom_keys(table: &Table<'_>, preset: Preset) {
    for value in CUSTOM_KEYS.iter().filter_map(|key| table.value(key)) {
        value.reject(&Wrong::whole(
            format!("scheme = \"{}\" says this itself", preset.name()),
            "leave it away, or write scheme = \"custom\" and spell all of it out",
        ));
    }
}

fn custom(table: &Table<'_>) -> Option<CustomSign> {
    let header = table.read("header", values::header_name);
    if !table.has("header") {
        table.missing("header");
    }
    let template = |key, default: &str, check: fn(&str) -> Result<(), String>| {
        let read = |value: &Value<'_>| {
            let text = values::text(value)?;
            check(&text).map(|()| text).map_err(|says| Wrong::whole(says, ""))
        };
        table.read(key, read).unwrap_or_else(|| default.to_owned()).into()
    };
    let custom = CustomSign {
        algorithm: table
            .read("algorithm", values::choice(HmacHash::NAMES))
            .unwrap_or(HmacHash::Sha256),
        encoding: table
            .read("encoding", values::choice(SignatureEncoding::NAMES))
            .unwrap_or(SignatureEncoding::Hex),
        content: template("content", CONTENT_DEFAULT, signing::check_content),
        header: header.clone().unwrap_or(HeaderName::from_static("x-signature")),
        value: template("value", VALUE_DEFAULT, signing::check_value),
        timestamp_header: table.read("timestamp_header", values::header_name),
        timestamp: table
            .read("timestamp", values::choice(TimestampFormat::NAMES))
            .unwrap_or(TimestampFormat::Unix),
    };
    header.map(|_| custom)
}

/// A secret, or a table of a secret and the time until it signs.
fn secret(item: &Value<'_>, named: Named) -> Option<SigningSecret> {
    let key = |value: &Value<'_>| signing_key(value, named);
    let Some(table) = item.as_table(&keys::SIGN_SECRET) else {
        return item.read(key).map(|key| SigningSecret { key, until: None });
    };
    if !table.has("secret") {
        table.missing("secret");
    }
    let until = table.read("until", instant);
    table.read("secret", key).map(|key| SigningSecret { key, until })
}

fn signing_key(value: &Value<'_>, named: Named) -> Read<SigningKey> {
    let text = value.resolved()?.text;
    let parse = match named {
        Named::Preset(Preset::Standard) => signing::parse_secret,
        Named::Preset(Preset::StandardEd25519 | Preset::Discord) => signing::parse_private_key,
        Named::Preset(_) | Named::Custom => signing::parse_text,
    };
    parse(&text).map_err(|says| Wrong::whole(says, ""))
}

fn instant(value: &Value<'_>) -> Read<Timestamp> {
    Timestamp::parse_rfc3339(&values::text(value)?).ok_or_else(|| {
        Wrong::new(
            "is not a date with a time",
            "write it like \"2026-12-01T00:00:00Z\"",
        )
    })
}
