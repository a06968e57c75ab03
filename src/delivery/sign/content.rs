//! The texts of a signature: what is signed, and what the header says. Both are put together from parts of the
//! request. Pure.
//!
//! A template that only names such parts (`{{ timestamp }}.{{ body }}`) is taken apart once and put together
//! byte for byte, so that a compressed body can be signed too.

use std::borrow::Cow;

use reqwest::Url;
use sha2::{Digest, Sha256};

use super::keyed::hex;
use crate::delivery::render::{OutgoingRequest, WEBHOOK_ID};
use crate::domain::endpoint::TimestampFormat;
use crate::domain::time::Timestamp;

/// A part of a signed text or of a header's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Text that is always the same.
    Text(Box<str>),
    /// `webhook-id`, as it is sent.
    Id,
    /// The time of signing.
    Time(TimestampFormat),
    /// The method, in capitals.
    Method,
    /// The whole URL.
    Url,
    /// The URL's path.
    Path,
    /// The URL's query, without `?`; empty without one.
    Query,
    /// The body's bytes.
    Body,
    /// SHA-256 of the body, in hexadecimal.
    BodySha256,
    /// The signature; only in the header's value.
    Signature,
}

/// What the templates call the parts.
const NAMES: &[(&str, Part)] = &[
    ("id", Part::Id),
    ("timestamp", Part::Time(TimestampFormat::Unix)),
    ("timestamp_ms", Part::Time(TimestampFormat::UnixMs)),
    ("timestamp_iso", Part::Time(TimestampFormat::Rfc3339)),
    ("method", Part::Method),
    ("url", Part::Url),
    ("path", Part::Path),
    ("query", Part::Query),
    ("body", Part::Body),
    ("body_sha256", Part::BodySha256),
    ("signature", Part::Signature),
];

/// What of a request can be signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    id: &'a str,
    now: Timestamp,
    method: &'a http::Method,
    url: &'a Url,
    body: &'a [u8],
}

impl<'a> Facts<'a> {
    /// Those of `request`, made at `now`.
    ///
    /// # Errors
    /// One sentence if the request has no id.
    pub(super) fn of(request: &'a OutgoingRequest, now: Timestamp) -> Result<Self, String> {
        let id = request
            .headers
            .get(WEBHOOK_ID)
            .and_then(|value| value.to_str().ok());
        Ok(Self {
            id: id.ok_or("a request without webhook-id cannot be signed")?,
            now,
            method: &request.method,
            url: &request.url,
            body: &request.body,
        })
    }
}

/// A text made of parts.
#[derive(Clone, Debug)]
pub(super) struct Content(Vec<Part>);

impl Content {
    /// Takes a template apart.
    ///
    /// # Errors
    /// One sentence naming what it can't hold.
    pub(super) fn parse(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, behind) = after.split_once("}}").ok_or("there is a `{{` without its `}}`")?;
            push_text(&mut parts, before);
            parts.push(named(name.trim())?);
            rest = behind;
        }
        push_text(&mut parts, rest);
        Ok(Self(parts))
    }

    fn has(&self, part: &Part) -> bool {
        self.0.contains(part)
    }

    /// The bytes, piece by piece, so that a large body is not copied.
    pub(super) fn pieces<'a>(&'a self, facts: &Facts<'a>) -> Vec<Cow<'a, [u8]>> {
        self.0.iter().map(|part| bytes(part, facts)).collect()
    }

    /// The text with `signature` in its place.
    pub(super) fn text(&self, facts: &Facts<'_>, signature: &str) -> String {
        let mut text = String::with_capacity(96);
        for part in &self.0 {
            match part {
                Part::Signature => text.push_str(signature),
                Part::Text(piece) => text.push_str(piece),
                other => text.push_str(&String::from_utf8_lossy(&bytes(other, facts))),
            }
        }
        text
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
}

fn named(name: &str) -> Result<Part, String> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, part)| part.clone()).ok_or_else(|| {
        let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        format!(
            "`{{{{ {name} }}}}` is not known here: known are {}",
            known.join(" ")
        )
    })
}

fn bytes<'a>(part: &'a Part, facts: &Facts<'a>) -> Cow<'a, [u8]> {
    match part {
        Part::Text(text) => text.as_bytes().into(),
        Part::Id => facts.id.as_bytes().into(),
        Part::Time(format) => format.write(facts.now).into_bytes().into(),
        Part::Method => facts.method.as_str().as_bytes().into(),
        Part::Url => facts.url.as_str().as_bytes().into(),
        Part::Path => facts.url.path().as_bytes().into(),
        Part::Query => facts.url.query().unwrap_or_default().as_bytes().into(),
        Part::Body => facts.body.into(),
        Part::BodySha256 => hex(&Sha256::digest(facts.body)).into_bytes().into(),
        Part::Signature => Cow::default(),
    }
}

/// Whether `template` says what can be signed.
///
/// # Errors
/// One sentence naming what is wrong.
pub fn check_content(template: &str) -> Result<(), String> {
    let content = Content::parse(template)?;
    if content.has(&Part::Signature) {
        return Err("`{{ signature }}` can't stand in what is signed".to_owned());
    }
    if !content.has(&Part::Body) && !content.has(&Part::BodySha256) {
        return Err(
            "the signed text leaves the body out, so anybody could change it: name `{{ body }}`".to_owned(),
        );
    }
    Ok(())
}

/// Whether `template` says what the header of a signature can say.
///
/// # Errors
/// One sentence naming what is wrong.
pub fn check_value(template: &str) -> Result<(), String> {
    let value = Content::parse(template)?;
    if !value.has(&Part::Signature) {
        return Err("the header would not hold the signature: name `{{ signature }}`".to_owned());
    }
    if value.has(&Part::Body) {
        return Err("a header can't hold the body".to_owned());
    }
    Ok(())
}
