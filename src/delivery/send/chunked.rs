//! Bodies that come in chunks (RFC 9112 §7.1). Pure.

use bytes::{Buf, Bytes, BytesMut};

use crate::delivery::failure::Broken;

/// So many bytes the line before a chunk may have; nobody is known who says more there than the size.
const LINE_BYTES_MAX: usize = 1024;
/// So many trailers there may be, and so many bytes they may have together.
const TRAILERS_MAX: usize = 100;
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Where in a chunked body the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Before the line that says how long a chunk is.
    #[default]
    Size,
    /// In a chunk, with so many bytes to come, at least one.
    Data(u64),
    /// Before the end of the line that a chunk ends with.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    /// Behind all of it.
    End,
}

impl Chunks {
    /// Takes the next piece of the body from the beginning of `buffer`; `None`: more has to come first, or that was all
    /// ([`Self::is_at_end`]).
    ///
    /// # Errors
    /// What there is, is no chunk.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Broken> {
        loop {
            *self = match *self {
                Self::Size => match line(buffer)? {
                    Some(bytes) => match size(&buffer.split_to(bytes))? {
                        0 => Self::Trailers,
                        size => Self::Data(size),
                    },
                    None => return Ok(None),
                },
                Self::Data(_) if buffer.is_empty() => return Ok(None),
                Self::Data(left) => {
                    let here = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
                    *self = match left - here as u64 {
                        0 => Self::DataEnd,
                        left => Self::Data(left),
                    };
                    let piece = Bytes::copy_from_slice(&buffer[..here]);
                    buffer.advance(here);
                    return Ok(Some(piece));
                }
                Self::DataEnd => match &buffer[..] {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        Self::Size
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(Broken::Malformed("a chunk is longer than it says")),
                },
                Self::Trailers => match trailers(buffer)? {
                    Some(bytes) => {
                        buffer.advance(bytes);
                        Self::End
                    }
                    None => return Ok(None),
                },
                Self::End => return Ok(None),
            };
        }
    }

    /// Whether the whole body has been taken.
    pub(super) fn is_at_end(self) -> bool {
        self == Self::End
    }
}

/// How many bytes the line at the beginning of `buffer` has, with its end; `None`: its end has not come.
fn line(buffer: &[u8]) -> Result<Option<usize>, Broken> {
    let end = memchr::memchr(b'\n', buffer);
    match end {
        _ if end.unwrap_or(buffer.len()) >= LINE_BYTES_MAX => {
            Err(Broken::Malformed("a line between its chunks is too long"))
        }
        None => Ok(None),
        Some(end) if end > 0 && buffer[end - 1] == b'\r' => Ok(Some(end + 1)),
        Some(_) => Err(Broken::Malformed("a line between its chunks ends without a CR")),
    }
}

/// How many bytes the trailers at the beginning of `buffer` have, with the empty line behind them; `None`: they have not
/// come wholly. Nobody wants them here, but what stands there must be some.
fn trailers(buffer: &[u8]) -> Result<Option<usize>, Broken> {
    let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    let ends_in_order =
        |block: &[u8]| memchr::memchr_iter(b'\n', block).all(|at| at > 0 && block[at - 1] == b'\r');
    match httparse::parse_headers(buffer, &mut fields) {
        Ok(httparse::Status::Complete((bytes, _))) if ends_in_order(&buffer[..bytes]) => Ok(Some(bytes)),
        Ok(httparse::Status::Partial) if buffer.len() < TRAILER_BYTES_MAX => Ok(None),
        Ok(httparse::Status::Partial) => Err(Broken::Malformed("its trailers are too long")),
        _ => Err(Broken::Malformed("what stands behind its chunks are no trailers")),
    }
}

/// What the line before a chunk says; what stands behind a semicolon is for those who have agreed on it.
fn size(line: &[u8]) -> Result<u64, Broken> {
    let none = Broken::Malformed("the size of a chunk is none");
    if !line.first().is_some_and(u8::is_ascii_hexdigit) {
        return Err(none);
    }
    match httparse::parse_chunk_size(line) {
        Ok(httparse::Status::Complete((_, size))) => Ok(size),
        _ => Err(none),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of `text` when it comes in pieces of `bytes`, and what is left of it.
    fn taken(text: &str, bytes: usize) -> Result<(String, bool, String), String> {
        let (mut chunks, mut buffer, mut body) = (Chunks::default(), BytesMut::new(), Vec::new());
        for piece in text.as_bytes().chunks(bytes) {
            buffer.extend_from_slice(piece);
            while let Some(data) = chunks.next(&mut buffer).map_err(|broken| broken.to_string())? {
                body.extend_from_slice(&data);
            }
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok((text(&body), chunks.is_at_end(), text(&buffer)))
    }

    #[test]
    fn bodies_in_chunks_in_pieces() {
        for (text, expected) in [
            ("0\r\n\r\n", ("", true, "")),
            ("2\r\nok\r\n0\r\n\r\nmore", ("ok", true, "more")),
            (
                "A\r\n0123456789\r\n1;name=\"x\"\r\n!\r\n000\r\n\r\n",
                ("0123456789!", true, ""),
            ),
            ("2 \r\nok\r\n0\r\nx: y\r\nz: \r\n\r\n", ("ok", true, "")),
            ("5\r\nab", ("ab", false, "")),
            ("2\r\nok\r", ("ok", false, "\r")),
            ("2\r\nok\r\n0\r\nx: y\r\n", ("ok", false, "x: y\r\n")),
        ] {
            for bytes in 1..=text.len() {
                let (body, ended, left) = taken(text, bytes).unwrap();
                // What follows a body that has ended stays where it is, but for how much of it has come.
                assert_eq!(
                    (body.as_str(), ended, left.as_str()),
                    expected,
                    "{text:?} by {bytes}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_chunk() {
        let long = format!("1;{}", "x".repeat(LINE_BYTES_MAX));
        let trailers = format!("0\r\na: {}", "b".repeat(TRAILER_BYTES_MAX));
        let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(TRAILERS_MAX + 1));
        for (text, says) in [
            ("not hex\r\n", "size of a chunk"),
            ("\r\n", "size of a chunk"),
            ("-1\r\n", "size of a chunk"),
            ("11112222333344445\r\n", "size of a chunk"),
            ("1 1\r\n", "size of a chunk"),
            ("2\nok", "without a CR"),
            ("2\r\noky", "longer than it says"),
            ("0\r\nx: y\n\r\n", "no trailers"),
            ("0\r\nx y\r\n\r\n", "no trailers"),
            (&many, "no trailers"),
            (&long, "too long"),
            (&trailers, "too long"),
        ] {
            let found = taken(text, text.len()).unwrap_err();
            assert!(found.contains(says), "{text:.40}: {found}");
        }
    }
}
