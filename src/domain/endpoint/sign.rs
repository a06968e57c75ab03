//! How requests are signed.

/// One signature on each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignPolicy {
    /// Standard Webhooks 1.0.0, `v1` (HMAC-SHA256): every secret signs, so that receivers can rotate.
    Standard {
        /// Decoded keys, newest first.
        keys: Vec<SigningKey>,
    },
}

/// A decoded HMAC key; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(pub Box<[u8]>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}
