//! What each scheme is made of. Pure; a new preset is a row here.

use http::HeaderName;

use super::content::Content;
use super::keyed::Algorithm;
use crate::domain::endpoint::{CustomSign, HmacHash, Preset, SignScheme, SignatureEncoding, TimestampFormat};

use SignatureEncoding::{Base64, Hex};
use TimestampFormat::{Rfc3339, Unix, UnixMs};

/// A scheme, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    /// What computes the signature.
    pub algorithm: Algorithm,
    /// How it is written.
    pub encoding: SignatureEncoding,
    /// What is signed.
    pub content: Content,
    /// Where the signature goes.
    pub header: HeaderName,
    /// What the header begins with.
    pub lead: Content,
    /// What the header says for each signature.
    pub each: Content,
    /// What stands between signatures; `None`: the header can hold one only.
    pub separator: Option<&'static str>,
    /// A header for the time, and how it writes it.
    pub timestamp: Option<(HeaderName, TimestampFormat)>,
}

/// A preset as a row of texts.
struct Row {
    algorithm: Algorithm,
    encoding: SignatureEncoding,
    content: &'static str,
    header: &'static str,
    lead: &'static str,
    each: &'static str,
    separator: Option<&'static str>,
    timestamp: Option<(&'static str, TimestampFormat)>,
}

/// A scheme of HMAC-SHA256 whose header holds one signature and nothing else.
const fn plain(header: &'static str, encoding: SignatureEncoding, content: &'static str) -> Row {
    Row {
        algorithm: Algorithm::Hmac(HmacHash::Sha256),
        encoding,
        content,
        header,
        lead: "",
        each: "{{ signature }}",
        separator: None,
        timestamp: None,
    }
}

/// The row of `preset`, as the receivers' documentation has it.
fn row(preset: Preset) -> Row {
    match preset {
        // Standard Webhooks 1.0.0, "Signature scheme". Id and timestamp are headers of every request anyway.
        Preset::Standard => Row {
            each: "v1,{{ signature }}",
            separator: Some(" "),
            ..plain("webhook-signature", Base64, "{{ id }}.{{ timestamp }}.{{ body }}")
        },
        Preset::StandardEd25519 => Row {
            algorithm: Algorithm::Ed25519,
            each: "v1a,{{ signature }}",
            ..row(Preset::Standard)
        },
        Preset::Stripe => Row {
            lead: "t={{ timestamp }},",
            each: "v1={{ signature }}",
            separator: Some(","),
            ..plain("stripe-signature", Hex, "{{ timestamp }}.{{ body }}")
        },
        Preset::Github => Row {
            each: "sha256={{ signature }}",
            ..plain("x-hub-signature-256", Hex, "{{ body }}")
        },
        Preset::Shopify => plain("x-shopify-hmac-sha256", Base64, "{{ body }}"),
        Preset::Slack => Row {
            each: "v0={{ signature }}",
            timestamp: Some(("x-slack-request-timestamp", Unix)),
            ..plain("x-slack-signature", Hex, "v0:{{ timestamp }}:{{ body }}")
        },
        Preset::Discord => Row {
            algorithm: Algorithm::Ed25519,
            timestamp: Some(("x-signature-timestamp", Unix)),
            ..plain("x-signature-ed25519", Hex, "{{ timestamp }}{{ body }}")
        },
        Preset::Hubspot => Row {
            timestamp: Some(("x-hubspot-request-timestamp", UnixMs)),
            ..plain(
                "x-hubspot-signature-v3",
                Base64,
                "{{ method }}{{ url }}{{ body }}{{ timestamp_ms }}",
            )
        },
        Preset::Square => plain("x-square-hmacsha256-signature", Base64, "{{ url }}{{ body }}"),
        Preset::Timestamped => Row {
            timestamp: Some(("x-timestamp", UnixMs)),
            ..plain("x-signature", Hex, "{{ body }}")
        },
        Preset::Canonical => Row {
            timestamp: Some(("x-timestamp", Unix)),
            ..plain(
                "x-signature",
                Hex,
                "{{ method }}{{ path }}{{ timestamp }}{{ body }}",
            )
        },
        Preset::Webhook => Row {
            timestamp: Some(("x-webhook-timestamp", Rfc3339)),
            ..plain("x-webhook-signature", Hex, "{{ body }}")
        },
    }
}

impl Recipe {
    /// That of `scheme`.
    ///
    /// # Errors
    /// One sentence if a template of a custom scheme can't be used.
    pub(super) fn of(scheme: &SignScheme) -> Result<Self, String> {
        match scheme {
            SignScheme::Preset(preset) => Self::preset(&row(*preset)),
            SignScheme::Custom(custom) => Self::custom(custom),
        }
    }

    fn preset(row: &Row) -> Result<Self, String> {
        let timestamp = row.timestamp;
        Ok(Self {
            algorithm: row.algorithm,
            encoding: row.encoding,
            content: Content::parse(row.content)?,
            header: HeaderName::from_static(row.header),
            lead: Content::parse(row.lead)?,
            each: Content::parse(row.each)?,
            separator: row.separator,
            timestamp: timestamp.map(|(name, format)| (HeaderName::from_static(name), format)),
        })
    }

    fn custom(custom: &CustomSign) -> Result<Self, String> {
        let timestamp = custom.timestamp_header.clone();
        Ok(Self {
            algorithm: Algorithm::Hmac(custom.algorithm),
            encoding: custom.encoding,
            content: Content::parse(&custom.content).map_err(|why| format!("sign: content: {why}"))?,
            header: custom.header.clone(),
            lead: Content::parse("")?,
            each: Content::parse(&custom.value).map_err(|why| format!("sign: value: {why}"))?,
            separator: None,
            timestamp: timestamp.map(|name| (name, custom.timestamp)),
        })
    }
}
