//! Keys that are ready to sign. Pure; knows bytes only, not where they come from or go.

use std::borrow::Cow;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use smallvec::SmallVec;

use super::content::Text;
use crate::domain::endpoint::{HmacHash, SignatureEncoding, SigningKey};

/// A signature as bytes.
pub(super) type Signed = SmallVec<[u8; 64]>;

/// What a signature is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// HMAC over a hash (RFC 2104).
    Hmac(HmacHash),
    /// Ed25519 (RFC 8032).
    Ed25519,
}

/// A key with its algorithm. An HMAC is kept as it is after taking in the key, which saves two of the hash's
/// blocks on each request.
#[derive(Clone)]
pub(super) enum Keyed {
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
    Sha1(Hmac<Sha1>),
    Ed25519(Arc<Ed25519KeyPair>),
}

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl Keyed {
    /// Prepares `key`.
    ///
    /// # Errors
    /// One sentence if it can't be used.
    pub(super) fn new(algorithm: Algorithm, key: &SigningKey) -> Result<Self, String> {
        let wrong = |why| format!("sign: a secret cannot be used: {why}");
        Ok(match algorithm {
            Algorithm::Hmac(HmacHash::Sha256) => Self::Sha256(Hmac::new_from_slice(&key.0).map_err(wrong)?),
            Algorithm::Hmac(HmacHash::Sha512) => Self::Sha512(Hmac::new_from_slice(&key.0).map_err(wrong)?),
            Algorithm::Hmac(HmacHash::Sha1) => Self::Sha1(Hmac::new_from_slice(&key.0).map_err(wrong)?),
            Algorithm::Ed25519 => Self::Ed25519(Arc::new(key_pair(key)?)),
        })
    }

    /// The signature over `parts`, one behind the other.
    pub(super) fn sign(&self, parts: &[Cow<'_, [u8]>]) -> Signed {
        match self {
            Self::Sha256(mac) => tag(mac, parts),
            Self::Sha512(mac) => tag(mac, parts),
            Self::Sha1(mac) => tag(mac, parts),
            Self::Ed25519(pair) => pair.sign(&parts.concat()).as_ref().into(),
        }
    }
}

fn tag<M: Mac + Clone>(keyed: &M, parts: &[Cow<'_, [u8]>]) -> Signed {
    let mut mac = keyed.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().as_slice().into()
}

/// The key pair of a seed, or of a seed with its public key.
///
/// # Errors
/// One sentence if the two don't belong together.
pub(super) fn key_pair(key: &SigningKey) -> Result<Ed25519KeyPair, String> {
    const WRONG: &str = "the two halves of a private key don't belong together";
    let (seed, public) = key.0.split_at_checked(32).ok_or(WRONG)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| WRONG)?;
    if !public.is_empty() && public != pair.public_key().as_ref() {
        return Err(WRONG.to_owned());
    }
    Ok(pair)
}

/// `signature` as text.
pub(super) fn encoded(encoding: SignatureEncoding, signature: &[u8]) -> Text {
    match encoding {
        SignatureEncoding::Hex => hex(signature).as_bytes().into(),
        SignatureEncoding::Base64 => {
            let mut text = Text::from_elem(0, signature.len().div_ceil(3) * 4);
            // There is room for all of it, so this always writes that much.
            let bytes = STANDARD.encode_slice(signature, &mut text).unwrap_or(0);
            text.truncate(bytes);
            text
        }
    }
}

/// The signature that `text` writes; `None`: it writes none.
pub(super) fn decoded(encoding: SignatureEncoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        SignatureEncoding::Hex => from_hex(text),
        SignatureEncoding::Base64 => STANDARD.decode(text).ok(),
    }
}

/// The bytes of pairs of hexadecimal digits.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    bytes.collect::<Option<_>>().filter(|_| rest.is_empty())
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0xf)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}
