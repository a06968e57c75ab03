//! Signatures over finished requests: what is signed, with what, and where the signature goes. Pure, and knows
//! nothing of connections; the exact bytes that are sent are what is signed.
//!
//! One signer serves every scheme: [`recipe`] says what a scheme is made of, [`content`] puts the text that is
//! signed together, [`keyed`] computes, and [`secret`] reads the secrets of the file. [`check`] is the other side: what a
//! receiver does with them.

use http::{HeaderName, HeaderValue};

use super::render::OutgoingRequest;
use crate::domain::endpoint::SignPolicy;
use crate::domain::time::Timestamp;

pub mod check;
mod content;
mod keyed;
mod recipe;
mod secret;

#[cfg(test)]
mod tests;

pub use content::{check_content, check_value};
pub use secret::{parse_private_key, parse_secret, parse_text};

use content::{Facts, Text};
use keyed::{Keyed, encoded};
use recipe::Recipe;

/// Signs an endpoint's requests.
#[derive(Clone, Debug, Default)]
pub struct Signer {
    signatures: Vec<Signature>,
}

/// One scheme with its keys.
#[derive(Clone, Debug)]
struct Signature {
    recipe: Recipe,
    keys: Vec<(Keyed, Option<Timestamp>)>,
}

impl Signer {
    /// Prepares every key of every policy; none signs nothing.
    ///
    /// # Errors
    /// One sentence if a key or a template cannot be used.
    pub fn new(policies: &[SignPolicy]) -> Result<Self, String> {
        let signatures: Vec<_> = policies.iter().map(Signature::new).collect::<Result<_, _>>()?;
        for (index, signature) in signatures.iter().enumerate() {
            let header = &signature.recipe.header;
            let is_taken = signatures[..index]
                .iter()
                .any(|other| other.recipe.header == *header);
            if is_taken && signature.recipe.separator.is_none() {
                return Err(format!("sign: two signatures can't share the header {header}"));
            }
        }
        Ok(Self { signatures })
    }

    /// Adds the headers of every scheme, for a request that is made at `now`, which decides the timestamps and
    /// which secrets have expired. Does nothing without policies.
    ///
    /// # Errors
    /// One sentence if all secrets of a scheme have expired, or its templates don't fit the request.
    pub fn sign(&self, request: &mut OutgoingRequest, now: Timestamp) -> Result<(), String> {
        for signature in &self.signatures {
            signature.sign(request, now)?;
        }
        Ok(())
    }
}

impl Signature {
    fn new(policy: &SignPolicy) -> Result<Self, String> {
        let recipe = Recipe::of(&policy.scheme)?;
        let keys = policy.secrets.iter().map(|secret| {
            let keyed = Keyed::new(recipe.algorithm, &secret.key);
            keyed.map(|keyed| (keyed, secret.until))
        });
        Ok(Self {
            keys: keys.collect::<Result<_, _>>()?,
            recipe,
        })
    }

    fn sign(&self, request: &mut OutgoingRequest, now: Timestamp) -> Result<(), String> {
        let recipe = &self.recipe;
        let mut value = self.value(request, now)?;
        if let Some((name, format)) = &recipe.timestamp {
            set(request, name, format.write(now).as_bytes(), false)?;
        }
        // Another scheme of the same family has signed already.
        if let (Some(first), Some(separator)) = (request.headers.get(&recipe.header), recipe.separator) {
            value.insert_from_slice(0, separator.as_bytes());
            value.insert_from_slice(0, first.as_bytes());
        }
        set(request, &recipe.header, &value, true)
    }

    /// One signature with each key, if the header can carry several, so that a receiver which knows any one of
    /// them can verify it (D5).
    fn value(&self, request: &OutgoingRequest, now: Timestamp) -> Result<Text, String> {
        let recipe = &self.recipe;
        let in_force = self
            .keys
            .iter()
            .filter(|(_, until)| until.is_none_or(|until| now < until))
            .take(recipe.separator.map_or(1, |_| usize::MAX));
        let facts = Facts::of(request, now)?;
        let content = recipe.content.pieces(&facts)?;
        let mut value = Text::new();
        recipe.lead.write(&facts, b"", &mut value)?;
        let mut count = 0;
        for (keyed, _) in in_force {
            if count > 0 {
                value.extend_from_slice(recipe.separator.unwrap_or_default().as_bytes());
            }
            let signature = encoded(recipe.encoding, &keyed.sign(&content));
            recipe.each.write(&facts, &signature, &mut value)?;
            count += 1;
        }
        if count == 0 {
            return Err(format!(
                "every secret that signs {} has expired: add a new one to secrets",
                recipe.header
            ));
        }
        Ok(value)
    }
}

fn set(request: &mut OutgoingRequest, name: &HeaderName, text: &[u8], sensitive: bool) -> Result<(), String> {
    let mut value = HeaderValue::from_bytes(text).map_err(|_| {
        format!("sign: what {name} is to say holds a line break or another control character")
    })?;
    value.set_sensitive(sensitive);
    request.headers.insert(name.clone(), value);
    Ok(())
}
