//! How an endpoint's requests are signed: the scheme and its secrets, checked. How a signature is computed
//! is `delivery::sign`'s business.

use crate::domain::names::{Names, name_of};
use crate::domain::time::Timestamp;

/// One signature on each request.
#[derive(Clone, Debug, PartialEq)]
pub struct SignPolicy {
    /// What is signed, how, and where the signature goes.
    pub scheme: SignScheme,
    /// The secrets, newest first. A scheme whose header can carry several signatures makes one with each that
    /// has not expired; any other makes one, with the first that has not.
    pub secrets: Vec<SigningSecret>,
}

/// A secret and how long it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningSecret {
    /// The key.
    pub key: SigningKey,
    /// From this instant on it does not sign any more; `None`: for ever.
    pub until: Option<Timestamp>,
}

impl SigningSecret {
    /// Whether it still signs at `now`.
    #[must_use]
    pub fn signs_at(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A decoded key; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(pub Box<[u8]>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// The known ways to sign, by the names of `scheme`.
#[derive(Clone, Debug, PartialEq)]
pub enum SignScheme {
    /// One of the presets.
    Preset(Preset),
    /// Spelt out key by key.
    Custom(Box<CustomSign>),
}

/// A scheme that receivers have libraries for, or that many of them write by hand the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Standard Webhooks 1.0.0, `v1`: HMAC-SHA256.
    Standard,
    /// Standard Webhooks 1.0.0, `v1a`: Ed25519.
    StandardEd25519,
    /// GitHub's `X-Hub-Signature-256`.
    Github,
    /// Stripe's `Stripe-Signature`.
    Stripe,
    /// Shopify's `X-Shopify-Hmac-Sha256`.
    Shopify,
    /// Slack's `X-Slack-Signature`, version 0.
    Slack,
    /// Discord's `X-Signature-Ed25519`.
    Discord,
    /// HubSpot's `X-HubSpot-Signature-v3`.
    Hubspot,
    /// Square's `x-square-hmacsha256-signature`.
    Square,
    /// The body alone, in `X-Signature`, with `X-Timestamp` in milliseconds beside it.
    Timestamped,
    /// Method, path, timestamp and body, in `X-Signature`, with `X-Timestamp` in seconds beside it.
    Canonical,
    /// The body alone, in `X-Webhook-Signature`, with `X-Webhook-Timestamp` as a date beside it.
    Webhook,
}

impl Preset {
    /// Every preset with its name in the file.
    pub const NAMES: &'static Names<Self> = &[
        ("standard", Self::Standard),
        ("standard-ed25519", Self::StandardEd25519),
        ("github", Self::Github),
        ("stripe", Self::Stripe),
        ("shopify", Self::Shopify),
        ("slack", Self::Slack),
        ("discord", Self::Discord),
        ("hubspot", Self::Hubspot),
        ("square", Self::Square),
        ("timestamped", Self::Timestamped),
        ("canonical", Self::Canonical),
        ("webhook", Self::Webhook),
    ];

    /// The name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_of(Self::NAMES, &self)
    }
}

/// A scheme of the operator's own.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomSign {
    /// The hash beneath the HMAC.
    pub algorithm: HmacHash,
    /// How the signature is written.
    pub encoding: SignatureEncoding,
    /// The text that is signed: a template.
    pub content: Box<str>,
    /// The header the signature goes into.
    pub header: http::HeaderName,
    /// What that header says: a template that sees `signature`.
    pub value: Box<str>,
    /// A header for the time of signing, if the receiver wants one.
    pub timestamp_header: Option<http::HeaderName>,
    /// How that header writes the time.
    pub timestamp: TimestampFormat,
}

/// The hash beneath an HMAC (RFC 2104).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HmacHash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// SHA-1: for receivers that know nothing better.
    Sha1,
}

impl HmacHash {
    /// Every hash with its name in the file.
    pub const NAMES: &'static Names<Self> = &[
        ("sha256", Self::Sha256),
        ("sha512", Self::Sha512),
        ("sha1", Self::Sha1),
    ];
}

/// How a signature's bytes become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureEncoding {
    /// Lower-case hexadecimal.
    Hex,
    /// Base64 with padding (RFC 4648 §4).
    Base64,
}

impl SignatureEncoding {
    /// Every encoding with its name in the file.
    pub const NAMES: &'static Names<Self> = &[("hex", Self::Hex), ("base64", Self::Base64)];
}

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampFormat {
    /// Seconds since 1970.
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
    /// RFC 3339 in UTC: `2026-01-15T10:30:00.000Z`.
    Rfc3339,
}

impl TimestampFormat {
    /// Every format with its name in the file.
    pub const NAMES: &'static Names<Self> = &[
        ("unix", Self::Unix),
        ("unix_ms", Self::UnixMs),
        ("rfc3339", Self::Rfc3339),
    ];

    /// `time`, written so.
    #[must_use]
    pub fn write(self, time: Timestamp) -> String {
        match self {
            Self::Unix => time.unix_seconds().to_string(),
            Self::UnixMs => time.0.to_string(),
            Self::Rfc3339 => time.to_string(),
        }
    }

    /// The time that `text` writes so; `None`: it writes none.
    #[must_use]
    pub fn read(self, text: &str) -> Option<Timestamp> {
        match self {
            Self::Unix => text.parse::<u64>().ok()?.checked_mul(1000).map(Timestamp),
            Self::UnixMs => text.parse().ok().map(Timestamp),
            Self::Rfc3339 => Timestamp::parse_rfc3339(text),
        }
    }
}
