//! `[endpoint.tls]`: how the server proves who it is.

use std::fs;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::raw::{Table, Value};
use crate::config::values::{self, Read, Wrong};
use crate::domain::endpoint::TlsPolicy;

/// Whom to trust, and whether to check at all.
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
        ca_pem: table.read("ca", ca_pem).unwrap_or_default().into(),
    }
}

fn ca_pem(value: &Value<'_>) -> Read<String> {
    if values::text(value)?.is_empty() {
        return Ok(String::new());
    }
    let path = values::path(value)?;
    let pem = fs::read_to_string(&path)
        .map_err(|error| Wrong::new(format!("can't be read: {}", error.kind()), "name a PEM file"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(list) if !list.is_empty() => Ok(pem),
        _ => Err(Wrong::new(
            "holds no certificate",
            "it has to be PEM: -----BEGIN CERTIFICATE-----",
        )),
    }
}
