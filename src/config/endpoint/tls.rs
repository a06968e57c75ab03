//! `[endpoint.tls]`: how both sides prove who they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::{ClientIdentity, TlsPolicy};
use crate::domain::secret::Secret;

/// Whom to trust, whether to check at all, and as whom we introduce ourselves.
pub(super) fn tls(table: &Table<'_>) -> TlsPolicy {
    let verify = table.read("verify", Value::flag).unwrap_or(true);
    if let (false, Some(value)) = (verify, table.value("verify")) {
        value.warn(&Wrong::whole(
            "the server's certificate is not verified: anybody on the way can read and answer the requests",
            "name the server's own authority in ca instead",
        ));
    }
    TlsPolicy {
        verify,
        ca_pem: table.read("ca", certificates).unwrap_or_default().into(),
        identity: identity(table),
    }
}

/// The client's certificate and its key, which only go together.
fn identity(table: &Table<'_>) -> Option<ClientIdentity> {
    let certificate_pem = table.read("client_cert", certificates).unwrap_or_default();
    let key_pem = table.read("client_key", private_key).unwrap_or_default();
    let says = match (certificate_pem.is_empty(), key_pem.is_empty()) {
        (true, true) => return None,
        (false, true) => "the certificate is of no use without its key",
        (true, false) => "the key is of no use without its certificate",
        (false, false) if belong_together(&certificate_pem, &key_pem) => {
            return Some(ClientIdentity {
                certificate_pem: certificate_pem.into(),
                key_pem: Secret::new(&key_pem),
            });
        }
        (false, false) => "the certificate in client_cert is not for the key in client_key",
    };
    let written = ["client_cert", "client_key"].map(|key| table.read(key, values::text));
    // What could not be read at all has been reported.
    let unreadable =
        |text: &Option<String>, pem: &str| text.as_ref().is_some_and(|t| !t.is_empty()) && pem.is_empty();
    if !unreadable(&written[0], &certificate_pem) && !unreadable(&written[1], &key_pem) {
        let help = "name both, as PEM files";
        table.reject_key(&["client_cert", "client_key"], &Wrong::whole(says, help));
    }
    None
}

fn belong_together(certificate_pem: &str, key_pem: &str) -> bool {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate_pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes());
    let (Ok(chain), Ok(key)) = (chain, key) else {
        return false;
    };
    CertifiedKey::from_der(chain, key, &provider).is_ok()
}

fn certificates(value: &Value<'_>) -> Read<String> {
    let Some(pem) = pem(value)? else {
        return Ok(String::new());
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(list) if !list.is_empty() => Ok(pem),
        _ => Err(Wrong::new(
            "holds no certificate",
            "it has to be PEM: -----BEGIN CERTIFICATE-----",
        )),
    }
}

fn private_key(value: &Value<'_>) -> Read<String> {
    let Some(pem) = pem(value)? else {
        return Ok(String::new());
    };
    if PrivateKeyDer::from_pem_slice(pem.as_bytes()).is_err() {
        return Err(Wrong::new(
            "holds no private key",
            "it has to be PEM without a password: -----BEGIN PRIVATE KEY-----",
        ));
    }
    warn_if_open(value);
    Ok(pem)
}

/// The text of a PEM file, or the text itself where a reference gave it (a systemd credential, say); `None` if
/// nothing was named.
fn pem(value: &Value<'_>) -> Read<Option<String>> {
    let text = values::text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with("-----BEGIN") {
        return Ok(Some(text));
    }
    fs::read_to_string(values::path(value)?)
        .map(Some)
        .map_err(|error| Wrong::new(format!("can't be read: {}", error.kind()), "name a PEM file"))
}

/// A private key is to be read by the daemon alone.
fn warn_if_open(value: &Value<'_>) {
    let Ok(path) = values::path(value) else { return };
    if fs::metadata(&path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0) {
        let shown = path.display();
        value.warn(&Wrong::whole(
            format!("everybody on this machine can read the private key {shown}"),
            format!("chmod o-r {shown}"),
        ));
    }
}
