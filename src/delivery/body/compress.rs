//! Compression of finished bodies.

use std::io::Write;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::HeaderValue;

use crate::domain::endpoint::Compression;

/// zstd's own default: about as fast as copying, at a third of the size of JSON.
const ZSTD_LEVEL: i32 = 3;

/// `body` as `how` packs it.
///
/// # Errors
/// One sentence: the packer failed, which only a lack of memory makes it do.
pub(super) fn compress(how: Compression, body: Bytes) -> Result<Bytes, String> {
    let failed = |error: std::io::Error| format!("body.compress: {error}");
    match how {
        Compression::None => Ok(body),
        _ if body.is_empty() => Ok(body),
        Compression::Gzip => {
            let mut packer = GzEncoder::new(Vec::new(), flate2::Compression::default());
            packer.write_all(&body).map_err(failed)?;
            packer.finish().map(Bytes::from).map_err(failed)
        }
        Compression::Zstd => zstd::encode_all(&*body, ZSTD_LEVEL)
            .map(Bytes::from)
            .map_err(failed),
    }
}

/// The `content-encoding` of what [`compress`] makes.
#[must_use]
pub fn content_encoding(how: Compression) -> Option<HeaderValue> {
    match how {
        Compression::None => None,
        Compression::Gzip => Some(HeaderValue::from_static("gzip")),
        Compression::Zstd => Some(HeaderValue::from_static("zstd")),
    }
}
