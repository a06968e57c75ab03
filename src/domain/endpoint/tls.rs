//! Whom an endpoint's requests trust, and as whom they introduce themselves. The texts are checked; what TLS
//! does with them is `delivery::send`'s business.

use crate::domain::secret::Secret;

/// The TLS side of an endpoint's requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsPolicy {
    /// Verify the server's certificate. False only by an explicit key, and `check` warns.
    pub verify: bool,
    /// PEM text of the certificate authorities to trust besides the system's; empty: none.
    pub ca_pem: Box<str>,
    /// The certificate we show when the server asks for one.
    pub identity: Option<ClientIdentity>,
}

impl Default for TlsPolicy {
    fn default() -> Self {
        Self {
            verify: true,
            ca_pem: "".into(),
            identity: None,
        }
    }
}

/// A client certificate with its key (mTLS).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientIdentity {
    /// PEM text: the certificate, and after it those that lead to its authority.
    pub certificate_pem: Box<str>,
    /// PEM text of the private key.
    pub key_pem: Secret,
}
