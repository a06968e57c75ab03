//! The texts of a signature: what is signed, and what the header says. Both are put together from parts of the
//! request. Pure.
//!
//! A template that only names such parts (`{{ timestamp }}.{{ body }}`) is taken apart once and put together
//! byte for byte, which is quick, and works for bodies that are no text. Any other is left to the language.

use std::borrow::Cow;

use bytes::Bytes;
use reqwest::Url;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::keyed::hex;
use crate::delivery::render::{OutgoingRequest, WEBHOOK_ID};
use crate::domain::endpoint::TimestampFormat;
use crate::domain::names::{self, Names};
use crate::domain::time::Timestamp;
use crate::template::{Scope, Target, Template};

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
const NAMES: &Names<Part> = &[
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

/// What is signed, piece by piece.
pub(super) type Pieces<'a> = SmallVec<[Cow<'a, [u8]>; 6]>;

/// What a header says. Most fit without memory of their own.
pub(super) type Text = SmallVec<[u8; 128]>;

/// What of a request can be signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    id: &'a str,
    now: Timestamp,
    method: &'a http::Method,
    url: &'a Url,
    body: &'a Bytes,
}

impl<'a> Facts<'a> {
    /// Those of `request`, made at `now`.
    ///
    /// # Errors
    /// One sentence if the request has no id.
    pub(super) fn of(request: &'a OutgoingRequest, now: Timestamp) -> Result<Self, String> {
        let id = request
            .headers
            .get(&WEBHOOK_ID)
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

impl<'a> Facts<'a> {
    /// Those of a request that somebody else made, whose scheme need not know of ids.
    pub(super) fn received(request: &'a OutgoingRequest, now: Timestamp) -> Self {
        Self {
            id: "",
            now,
            method: &request.method,
            url: &request.url,
            body: &request.body,
        }
    }
}

/// A text made of parts of a request.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// One part behind the other.
    Parts(Vec<Part>),
    /// By the rules of a template.
    Template(Template),
}

impl Content {
    /// Takes a template apart, or compiles it.
    ///
    /// # Errors
    /// One sentence naming what it can't hold.
    pub(super) fn parse(template: &str) -> Result<Self, String> {
        match parts(template) {
            Some(parts) => Ok(Self::Parts(parts)),
            None => compiled(template).map(Self::Template),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Parts(parts) => parts.iter().any(|part| Some(part) == named(name)),
            Self::Template(template) => template.names().any(|known| known == name),
        }
    }

    /// The bytes, piece by piece, so that a large body is not copied.
    ///
    /// # Errors
    /// One sentence: the template doesn't fit the request.
    pub(super) fn pieces<'a>(&'a self, facts: &Facts<'a>) -> Result<Pieces<'a>, String> {
        match self {
            Self::Parts(parts) => Ok(parts.iter().map(|part| bytes(part, facts)).collect()),
            Self::Template(template) => {
                let text = rendered(template, facts, "")?;
                Ok([Cow::Owned(text.into_bytes())].into_iter().collect())
            }
        }
    }

    /// Writes the text, with `signature` in its place, behind what is in `into`.
    ///
    /// # Errors
    /// One sentence: the template doesn't fit the request.
    pub(super) fn write(&self, facts: &Facts<'_>, signature: &[u8], into: &mut Text) -> Result<(), String> {
        match self {
            Self::Parts(parts) => {
                for part in parts {
                    match part {
                        Part::Signature => into.extend_from_slice(signature),
                        other => into.extend_from_slice(&bytes(other, facts)),
                    }
                }
            }
            Self::Template(template) => {
                let signature = String::from_utf8_lossy(signature);
                into.extend_from_slice(rendered(template, facts, &signature)?.as_bytes());
            }
        }
        Ok(())
    }
}

/// The parts of a template that only names them; `None` for any other.
fn parts(template: &str) -> Option<Vec<Part>> {
    if template.contains("{%") || template.contains("{#") {
        return None;
    }
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, behind) = after.split_once("}}")?;
        parts.push(Part::Text(before.into()));
        parts.push(named(name.trim())?.clone());
        rest = behind;
    }
    parts.push(Part::Text(rest.into()));
    parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
    Some(parts)
}

fn named(name: &str) -> Option<&'static Part> {
    NAMES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, part)| part)
}

fn compiled(template: &str) -> Result<Template, String> {
    let template = Template::compile(template, Target::Text).map_err(|problem| problem.says)?;
    if let Some(name) = template.names().find(|name| named(name).is_none()) {
        let known = names::list(NAMES).join(" ");
        return Err(format!("`{name}` is not known here: known are {known}"));
    }
    Ok(template)
}

fn rendered(template: &Template, facts: &Facts<'_>, signature: &str) -> Result<String, String> {
    // The bounds on what a template may do grow with the body, as they do with the event elsewhere.
    let mut scope = Scope::new(facts.body.clone(), facts.now.0);
    for (name, part) in NAMES
        .iter()
        .filter(|(name, _)| template.names().any(|read| read == *name))
    {
        let value = match part {
            Part::Signature => signature.to_owned(),
            part => String::from_utf8(bytes(part, facts).into_owned()).map_err(|_| {
                "sign: a template that does more than name `{{ body }}` can't sign a body that is no text"
                    .to_owned()
            })?,
        };
        scope = scope.with(name, value);
    }
    template
        .render(&scope)
        .map_err(|problem| format!("sign: {}", problem.says))
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
        Part::Body => (&**facts.body).into(),
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
    if content.has("signature") {
        return Err("`{{ signature }}` can't stand in what is signed".to_owned());
    }
    if !content.has("body") && !content.has("body_sha256") {
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
    if !value.has("signature") {
        return Err("the header would not hold the signature: name `{{ signature }}`".to_owned());
    }
    if value.has("body") {
        return Err("a header can't hold the body".to_owned());
    }
    Ok(())
}
