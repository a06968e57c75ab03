//! Heads of HTTP/1.1 messages: those of requests as they are written, those of answers as they are read, and where an
//! answer's body ends (RFC 9112). Pure.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::{Method, StatusCode};

use super::authority;
use super::chunked::Chunks;
use crate::delivery::failure::{Broken, Failure};
use crate::delivery::fields::Fields;
use crate::delivery::render::OutgoingRequest;

/// How answers may be compressed: what is undone here, in the order of preference.
const ENCODINGS: &str = "zstd,gzip,deflate,br";
/// So many fields an answer's head may have.
const FIELDS_MAX: usize = 100;
/// So many bytes an answer's head may have.
pub(super) const BYTES_MAX: usize = 256 * 1024;
/// So many bytes path and query may have together.
const TARGET_BYTES_MAX: usize = 65_534;

/// Writes the head of `request` behind what is in `into`, with the fields that belong to the connection (RFC 9112 §3, §5;
/// RFC 9110 §8.6 for when a request without a body says so).
///
/// # Errors
/// What of its URL can't be written.
pub(super) fn write(request: &OutgoingRequest, into: &mut Vec<u8>) -> Result<(), Failure> {
    let target = &request.url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = authority(&request.url);
    if target.len() > TARGET_BYTES_MAX {
        return Err(Failure::unsendable(format!(
            "path and query have more than {TARGET_BYTES_MAX} bytes"
        )));
    }
    let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_visible(target) || !is_visible(host) {
        return Err(Failure::unsendable(
            "the URL holds what can't stand in a request line".to_owned(),
        ));
    }
    let headers = &request.headers;
    into.extend_from_slice(request.method.as_str().as_bytes());
    into.push(b' ');
    into.extend_from_slice(target.as_bytes());
    into.extend_from_slice(b" HTTP/1.1\r\n");
    let own = [(HOST, host), (ACCEPT, "*/*"), (ACCEPT_ENCODING, ENCODINGS)];
    for (name, value) in own {
        if !headers.contains(&name) {
            field(&name, value.as_bytes(), into);
        }
    }
    for (name, value) in headers.iter() {
        field(name, value.as_bytes(), into);
    }
    let bytes = request.body.len();
    if bytes > 0 || !matches!(request.method, Method::GET | Method::HEAD | Method::DELETE) {
        field(
            &CONTENT_LENGTH,
            itoa::Buffer::new().format(bytes).as_bytes(),
            into,
        );
    }
    into.extend_from_slice(b"\r\n");
    Ok(())
}

fn field(name: &HeaderName, value: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(name.as_str().as_bytes());
    into.extend_from_slice(b": ");
    into.extend_from_slice(value);
    into.extend_from_slice(b"\r\n");
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: Fields,
    /// Where the body ends.
    pub(super) framing: Framing,
    /// Whether the connection may be used again when the body has been read.
    pub(super) keeps_alive: bool,
}

/// Where a body ends (RFC 9112 §6.3).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked(Chunks),
    /// Where the connection does.
    Close,
}

/// Takes the head of the answer to a request of `method` from the beginning of `buffer`, once all of it is there; answers
/// that only announce one (1xx) are passed over.
///
/// # Errors
/// What there is, is not the head of an answer, or is too long for one.
pub(super) fn read(method: &Method, buffer: &mut BytesMut) -> Result<Option<Head>, Broken> {
    loop {
        // Empty lines before it are passed over, as other clients do; at once, or each would have all of them parsed again.
        match &buffer[..] {
            [] => return Ok(None),
            [b'\r', b'\n', ..] => {
                buffer.advance(2);
                continue;
            }
            [b'\n', ..] => {
                buffer.advance(1);
                continue;
            }
            _ => {}
        }
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut fields);
        let bytes = match parsed.parse(buffer) {
            Ok(httparse::Status::Complete(bytes)) => bytes,
            Ok(httparse::Status::Partial) if buffer.len() < BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(Broken::Malformed("its head is too long")),
            Err(why) => return Err(Broken::Malformed(said(why))),
        };
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Broken::Malformed("its status is none"))?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            buffer.advance(bytes);
            continue;
        }
        let is_1_1 = parsed.version == Some(1);
        let headers = headers(&parsed, &buffer[..bytes])?;
        buffer.advance(bytes);
        return Ok(Some(Head {
            framing: framing(method, status, &headers, is_1_1)?,
            keeps_alive: keeps_alive(&headers, is_1_1) && status != StatusCode::SWITCHING_PROTOCOLS,
            status,
            headers,
        }));
    }
}

/// The parser's words are for those who know its types.
fn said(why: httparse::Error) -> &'static str {
    match why {
        httparse::Error::HeaderName => "the name of a header is none",
        httparse::Error::HeaderValue => "the value of a header is none",
        httparse::Error::NewLine => "a line ends where none may",
        httparse::Error::Status => "its status is none",
        httparse::Error::TooManyHeaders => "it has too many headers",
        httparse::Error::Version => "it does not begin with HTTP/1.1",
        httparse::Error::Token => "it holds what may not stand there",
    }
}

/// The fields of `parsed`, which was read from `head`. Their values share one copy of it.
fn headers(parsed: &httparse::Response<'_, '_>, head: &[u8]) -> Result<Fields, Broken> {
    let kept = Bytes::copy_from_slice(head);
    let mut headers = Fields::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let name = name.map_err(|_| Broken::Malformed("the name of a header is none"))?;
        // Where it stands in `head` it stands in the copy. The parser gives an empty value no place.
        let at = (field.value.as_ptr() as usize).checked_sub(head.as_ptr() as usize);
        let value = match at.filter(|at| !field.value.is_empty() && at + field.value.len() <= head.len()) {
            Some(at) => HeaderValue::from_maybe_shared(kept.slice(at..at + field.value.len())),
            None => HeaderValue::from_bytes(field.value),
        };
        headers.append(
            name,
            value.map_err(|_| Broken::Malformed("the value of a header is none"))?,
        );
    }
    Ok(headers)
}

/// RFC 9112 §6.3, in its order.
fn framing(method: &Method, status: StatusCode, headers: &Fields, is_1_1: bool) -> Result<Framing, Broken> {
    let has_none = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || method == Method::HEAD;
    if has_none {
        return Ok(Framing::Length(0));
    }
    if headers.contains(&TRANSFER_ENCODING) {
        let last = items(headers, &TRANSFER_ENCODING).last();
        return match last {
            _ if !is_1_1 => Err(Broken::Malformed("HTTP/1.0 has no transfer-encoding")),
            Some(Some(last)) if last.eq_ignore_ascii_case("chunked") => {
                Ok(Framing::Chunked(Chunks::default()))
            }
            _ => Ok(Framing::Close),
        };
    }
    let mut lengths = items(headers, &CONTENT_LENGTH).map(|item| item.and_then(number));
    match lengths.next() {
        None => Ok(Framing::Close),
        // Several are fine where they agree.
        Some(Some(length)) if lengths.all(|other| other == Some(length)) => Ok(Framing::Length(length)),
        Some(_) => Err(Broken::Malformed("its content-length is none")),
    }
}

/// Digits alone, where the language would take a sign as well.
fn number(text: &str) -> Option<u64> {
    let is_one = text.bytes().all(|byte| byte.is_ascii_digit());
    is_one.then(|| text.parse().ok()).flatten()
}

/// RFC 9112 §9.3.
fn keeps_alive(headers: &Fields, is_1_1: bool) -> bool {
    let says = |word: &str| {
        items(headers, &CONNECTION).any(|item| item.is_some_and(|item| item.eq_ignore_ascii_case(word)))
    };
    !says("close") && (is_1_1 || says("keep-alive"))
}

/// The items of a field that is a list (RFC 9110 §5.6.1); `None` for a value that is no text.
fn items<'a>(headers: &'a Fields, name: &HeaderName) -> impl Iterator<Item = Option<&'a str>> {
    let values = headers.get_all(name);
    values.flat_map(|value| {
        let text = value.to_str().ok();
        let items = text
            .into_iter()
            .flat_map(|text| text.split(',').map(str::trim).map(Some));
        items.chain(text.is_none().then_some(None))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(
        method: Method,
        url: &str,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> OutgoingRequest {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        OutgoingRequest {
            method,
            url: url.parse().unwrap(),
            headers: headers.iter().map(header).collect(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn a_request_names_its_host_and_its_length() {
        for (request, expected) in [
            (
                request(
                    Method::POST,
                    "http://a.example:8080/p?q=1#f",
                    &[("x-y", "z")],
                    "body",
                ),
                "POST /p?q=1 HTTP/1.1\r\nhost: a.example:8080\r\naccept: */*\r\naccept-encoding: zstd,gzip,deflate,br\r\n\
                 x-y: z\r\ncontent-length: 4\r\n\r\n",
            ),
            (
                request(
                    Method::POST,
                    "http://[::1]",
                    &[("host", "b"), ("accept", "c"), ("accept-encoding", "d")],
                    "",
                ),
                "POST / HTTP/1.1\r\nhost: b\r\naccept: c\r\naccept-encoding: d\r\ncontent-length: 0\r\n\r\n",
            ),
            (
                request(
                    Method::GET,
                    "http://u:p@a/%20",
                    &[("accept", "c"), ("accept-encoding", "d")],
                    "",
                ),
                "GET /%20 HTTP/1.1\r\nhost: a\r\naccept: c\r\naccept-encoding: d\r\n\r\n",
            ),
        ] {
            let mut head = Vec::new();
            write(&request, &mut head).unwrap();
            assert_eq!(String::from_utf8(head).unwrap(), expected);
        }
    }

    #[test]
    fn a_target_has_a_bound() {
        let long = format!("http://a/{}", "x".repeat(TARGET_BYTES_MAX));
        let failure = write(&request(Method::GET, &long, &[], ""), &mut Vec::new()).unwrap_err();
        assert!(failure.cause.contains("65534 bytes"), "{failure:?}");
    }

    /// What is known of an answer from its head: status, where the body ends, whether the connection lasts, bytes left.
    type Known = (u16, Framing, bool, usize);

    fn read_all(method: &Method, text: &str) -> Result<Option<Known>, String> {
        let mut buffer = BytesMut::from(text);
        let head = read(method, &mut buffer).map_err(|broken| broken.to_string())?;
        Ok(head.map(|head| (head.status.as_u16(), head.framing, head.keeps_alive, buffer.len())))
    }

    #[test]
    fn where_a_body_ends() {
        let chunked = || Framing::Chunked(Chunks::default());
        let ok = "HTTP/1.1 200 OK\r\n";
        for (fields, expected) in [
            ("\r\n", (200, Framing::Close, true, 0)),
            ("content-length: 5\r\n\r\nab", (200, Framing::Length(5), true, 2)),
            (
                "content-length: 5, 5\r\ncontent-length: 5\r\n\r\n",
                (200, Framing::Length(5), true, 0),
            ),
            (
                "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
                (200, chunked(), true, 0),
            ),
            (
                "transfer-encoding: gzip, Chunked\r\n\r\n",
                (200, chunked(), true, 0),
            ),
            (
                "transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n",
                (200, chunked(), true, 0),
            ),
            (
                "transfer-encoding: chunked, gzip\r\n\r\n",
                (200, Framing::Close, true, 0),
            ),
            (
                "connection: x, Close\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n",
                (200, Framing::Length(0), false, 0),
            ),
            (
                "x:\r\ncontent-length: 0\r\n\r\n",
                (200, Framing::Length(0), true, 0),
            ),
        ] {
            assert_eq!(
                read_all(&Method::POST, &format!("{ok}{fields}")),
                Ok(Some(expected)),
                "{fields:?}"
            );
        }
        for (text, expected) in [
            (
                "HTTP/1.1 204 None\r\ncontent-length: 5\r\n\r\n",
                (204, Framing::Length(0), true, 0),
            ),
            (
                "HTTP/1.1 304 Same\r\ntransfer-encoding: chunked\r\n\r\n",
                (304, Framing::Length(0), true, 0),
            ),
            (
                "HTTP/1.1 101 Switch\r\n\r\nx",
                (101, Framing::Length(0), false, 1),
            ),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n",
                (200, Framing::Length(1), false, 0),
            ),
            (
                "HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 1\r\n\r\n",
                (200, Framing::Length(1), true, 0),
            ),
            (
                "HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\nHTTP/1.1 201\r\ncontent-length: 1\r\n\r\n",
                (201, Framing::Length(1), true, 0),
            ),
            (
                "\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n",
                (200, Framing::Length(1), true, 0),
            ),
        ] {
            assert_eq!(read_all(&Method::POST, text), Ok(Some(expected)), "{text:?}");
        }
        let head = read_all(&Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
        assert_eq!(head, Ok(Some((200, Framing::Length(0), true, 0))));
    }

    #[test]
    fn what_is_no_head() {
        let many = "a: b\r\n".repeat(FIELDS_MAX + 1);
        let long = format!("a: {}", "b".repeat(BYTES_MAX));
        for (text, says) in [
            ("SSH-2.0-OpenSSH\r\n", "begin with HTTP/1.1"),
            ("HTTP/2.0 200 OK\r\n\r\n", "begin with HTTP/1.1"),
            ("HTTP/1.1 2x0 OK\r\n\r\n", "status"),
            ("HTTP/1.1 099 OK\r\n\r\n", "status"),
            ("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", "name of a header"),
            ("HTTP/1.1 200 OK\r\na: \u{1}\r\n\r\n", "value of a header"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
                "content-length",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n", "content-length"),
            ("HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n", "content-length"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n",
                "content-length",
            ),
            (
                "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                "transfer-encoding",
            ),
            (&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), "too many headers"),
            (&format!("HTTP/1.1 200 OK\r\n{long}"), "too long"),
        ] {
            let found = read_all(&Method::POST, text).unwrap_err();
            assert!(found.contains(says), "{text:.60}: {found}");
        }
        for part in [
            "",
            "H",
            "HTTP/1.1 200 OK\r\na: b\r\n",
            "HTTP/1.1 100 Go on\r\n\r\nHTTP",
        ] {
            assert_eq!(read_all(&Method::POST, part), Ok(None), "{part:?}");
        }
    }

    #[test]
    fn fields_keep_their_values() {
        let mut buffer =
            BytesMut::from("HTTP/1.1 200 OK\r\nA: b c \r\na: d\r\nempty:\r\nlatin: \u{e9}\r\n\r\n");
        let head = read(&Method::GET, &mut buffer).unwrap().unwrap();
        let values: Vec<_> = head.headers.get_all("a").collect();
        assert_eq!(values, ["b c", "d"]);
        assert_eq!(head.headers.get("empty").unwrap(), "");
        assert_eq!(head.headers.get("latin").unwrap().as_bytes(), "\u{e9}".as_bytes());
    }
}
