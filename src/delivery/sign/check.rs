//! Whether a request that came was signed with a key that its receiver knows: the recipes of the presets, read
//! backwards. Pure; what is checked are the bytes that came, and nothing that only the sender knows.

use std::borrow::Cow;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use super::content::{Facts, Text};
use super::keyed::{Keyed, decoded};
use super::recipe::Recipe;
use super::secret::{parse_public_key, parse_secret, parse_text};
use crate::delivery::render::{OutgoingRequest, WEBHOOK_TIMESTAMP};
use crate::domain::endpoint::{Preset, SignScheme, SigningKey, TimestampFormat};
use crate::domain::time::Timestamp;

/// A time of signing may be this far from our clock, in seconds, so that an old request cannot be replayed for ever.
const TOLERANCE_SECONDS: u64 = 300;

/// What a receiver knows of one scheme.
#[derive(Clone, Debug)]
pub struct Checker {
    preset: Preset,
    recipe: Recipe,
    keys: Vec<Known>,
}

/// A key as its receiver knows it.
#[derive(Clone, Debug)]
enum Known {
    /// The same secret as the sender's.
    Shared(Box<Keyed>),
    /// The public half of an Ed25519 key.
    Public(Box<[u8]>),
}

impl Checker {
    /// A checker that knows `secrets`, written as the receivers of `preset` have them: the shared secret, or the public key.
    ///
    /// # Errors
    /// One sentence saying what is wrong with a secret, without showing it.
    pub fn new(preset: Preset, secrets: &[&str]) -> Result<Self, String> {
        let recipe = Recipe::of(&SignScheme::Preset(preset))?;
        let shared = |key: SigningKey| Ok(Known::Shared(Box::new(Keyed::new(recipe.algorithm, &key)?)));
        let known = |text: &&str| match preset {
            Preset::StandardEd25519 | Preset::Discord => parse_public_key(text).map(Known::Public),
            Preset::Standard => shared(parse_secret(text)?),
            _ => shared(parse_text(text)?),
        };
        let keys = secrets.iter().map(known).collect::<Result<_, String>>()?;
        Ok(Self { preset, recipe, keys })
    }

    /// The scheme's name.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        self.preset.name()
    }

    /// Which of the keys (from 0) one of the signatures of `request` was made with, at about `now`.
    ///
    /// # Errors
    /// Why it is not verified, fit to stand behind the word "signature".
    pub fn check(&self, request: &OutgoingRequest, now: Timestamp) -> Result<usize, String> {
        let recipe = &self.recipe;
        let value = text_of(request, recipe.header.as_str());
        let value = value.ok_or_else(|| format!("missing: there is no {} header", recipe.header))?;
        if self.keys.is_empty() {
            return Err("not verified: no --secret was given".to_owned());
        }
        let signed_at = self.signed_at(request, value, now)?;
        let facts = match recipe.content.has("id") {
            true => Facts::of(request, signed_at).map_err(|_| "wrong: webhook-id is missing")?,
            false => Facts::received(request, signed_at),
        };
        let content = recipe.content.pieces(&facts)?;
        let mut mark = Text::new();
        recipe.each.write(&facts, b"", &mut mark)?;
        let mark = String::from_utf8_lossy(&mark);
        let whole = [value];
        let parts: Vec<&str> = match recipe.separator {
            Some(separator) => value.split(separator).collect(),
            None => whole.to_vec(),
        };
        let marked = parts.into_iter().filter_map(|part| part.strip_prefix(&*mark));
        let signatures: Vec<Vec<u8>> = marked.filter_map(|text| decoded(recipe.encoding, text)).collect();
        let fits = |key: &Known| {
            let mut signatures = signatures.iter();
            signatures.any(|signature| key.made(&content, signature))
        };
        let found = self.keys.iter().position(fits);
        found.ok_or_else(|| "wrong: made with another secret, or over other bytes".to_owned())
    }

    /// When the request says that it was signed; `now` where its scheme has no time.
    fn signed_at(&self, request: &OutgoingRequest, value: &str, now: Timestamp) -> Result<Timestamp, String> {
        let (place, text, format) = match (self.preset, &self.recipe.timestamp) {
            (Preset::Standard | Preset::StandardEd25519, _) => {
                let text = text_of(request, WEBHOOK_TIMESTAMP.as_str());
                ("webhook-timestamp", text, TimestampFormat::Unix)
            }
            (Preset::Stripe, _) => {
                let time = value.split(',').find_map(|part| part.strip_prefix("t="));
                ("t=", time, TimestampFormat::Unix)
            }
            (_, Some((name, format))) => (name.as_str(), text_of(request, name.as_str()), *format),
            (_, None) => return Ok(now),
        };
        let text = text.ok_or_else(|| format!("wrong: {place} is missing"))?;
        let time = format.read(text);
        let time = time.ok_or_else(|| format!("wrong: {place} is not a time but {text:?}"))?;
        let distance = time.unix_seconds().abs_diff(now.unix_seconds());
        if distance > TOLERANCE_SECONDS {
            return Err(format!("wrong: {place} is {distance} s away from this clock"));
        }
        Ok(time)
    }
}

impl Known {
    /// Whether this key, or the other half of it, made `signature` over `pieces`.
    fn made(&self, pieces: &[Cow<'_, [u8]>], signature: &[u8]) -> bool {
        match self {
            Self::Shared(keyed) => verify_slices_are_equal(&keyed.sign(pieces), signature).is_ok(),
            Self::Public(key) => {
                let key = UnparsedPublicKey::new(&ED25519, key);
                key.verify(&pieces.concat(), signature).is_ok()
            }
        }
    }
}

fn text_of<'r>(request: &'r OutgoingRequest, name: &str) -> Option<&'r str> {
    request.headers.get(name)?.to_str().ok()
}
