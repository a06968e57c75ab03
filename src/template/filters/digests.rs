//! Filters that encode and hash: base64, hex, SHA, HMAC.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use minijinja::{Error, Value};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::super::engine::Engine;
use super::super::value::{invalid, text_of};

pub(super) fn register(engine: &mut Engine) {
    type Change = fn(&[u8]) -> String;
    let simple: [(&str, Change); 6] = [
        ("b64", |bytes| STANDARD.encode(bytes)),
        ("b64url", |bytes| URL_SAFE_NO_PAD.encode(bytes)),
        ("hex", hex),
        ("sha1", |bytes| hex(&Sha1::digest(bytes))),
        ("sha256", |bytes| hex(&Sha256::digest(bytes))),
        ("sha512", |bytes| hex(&Sha512::digest(bytes))),
    ];
    for (name, change) in simple {
        let filter = move |value: &Value| Ok::<_, Error>(change(text_of(value)?.as_bytes()));
        engine.filter(name, Value::from_function(filter));
    }
    engine.filter("b64decode", Value::from_function(b64decode));
    engine.filter("hmac_sha256", Value::from_function(hmac_sha256));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text out of base64, with the usual or the URL alphabet, padded or not.
fn b64decode(value: &Value) -> Result<String, Error> {
    let text = text_of(value)?.replace('-', "+").replace('_', "/");
    let unpadded = text.trim().trim_end_matches('=');
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
        .decode(unpadded)
        .map_err(|_| invalid("it is not base64"))?;
    String::from_utf8(bytes).map_err(|_| invalid("what base64 holds here is not text"))
}

/// RFC 2104 with SHA-256, as hex digits, or as base64 when `encoding` says so.
fn hmac_sha256(value: &Value, key: &Value, encoding: Option<&str>) -> Result<String, Error> {
    let key = text_of(key)?;
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|error| invalid(error.to_string()))?;
    mac.update(text_of(value)?.as_bytes());
    let bytes = mac.finalize().into_bytes();
    match encoding.unwrap_or("hex") {
        "hex" => Ok(hex(&bytes)),
        "base64" => Ok(STANDARD.encode(bytes)),
        other => Err(invalid(format!(
            "{other:?} is no encoding; write 'hex' or 'base64'"
        ))),
    }
}
