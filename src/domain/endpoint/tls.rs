//! How the server proves who it is.

/// Whom a TLS connection trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPolicy {
    /// Verify the server's certificate. False only by an explicit key, and `check` warns.
    pub verify: bool,
    /// PEM text of the certificate authorities to trust besides the system's; empty: none.
    pub ca_pem: Box<str>,
}
