//! Where a TLS handshake begins, which the client library shows nobody: the random numbers of its hello are the first
//! that it asks the process's [`CryptoProvider`] for (RFC 8446 §4.1.2), once the connection below is there. So the provider
//! that the library would take by itself is installed with a source that notes who asks. Knows nothing of what is sent.

use std::sync::LazyLock;

use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom, aws_lc_rs};

use crate::delivery::phases::shaking_hands;

static NOTING: LazyLock<Noting> = LazyLock::new(|| Noting(aws_lc_rs::default_provider().secure_random));

/// The provider's own source of randomness.
#[derive(Debug)]
struct Noting(&'static dyn SecureRandom);

impl SecureRandom for Noting {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        shaking_hands();
        self.0.fill(buffer)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

/// Lets the handshakes of clients that are built from now on be noted. Does nothing when it has been called before.
pub(super) fn note_handshakes() {
    if CryptoProvider::get_default().is_none() {
        let provider = CryptoProvider {
            secure_random: &*NOTING,
            ..aws_lc_rs::default_provider()
        };
        // It fails when another thread has just done the same.
        let _ = provider.install_default();
    }
}
