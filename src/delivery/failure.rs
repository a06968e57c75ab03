//! What a broken exchange died of: one class and one cause, found by walking an error's chain of sources.
//! Pure; knows the error types of the libraries below, and nothing of endpoints or retries. Shown to be right
//! on exchanges that really broke, in the tests of this room, since such errors cannot be made by hand.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::dns::LookupError;
use crate::domain::network::Blocked;
use crate::domain::outcome::ErrorClass;

/// How far an exchange had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There was no connection yet, and there will be no TLS on it.
    ConnectPlain,
    /// There was no connection yet.
    Connect,
    /// No status had come yet.
    Head,
    /// The status had come, the body not wholly.
    Body,
}

/// What went wrong on a connection of our own.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Reading or writing.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The host closed it in order, but before the end of the answer.
    #[error("the connection was closed before the end of the answer")]
    Closed,
    /// What came does not follow RFC 9112.
    #[error("the answer is not HTTP/1.1: {0}")]
    Malformed(&'static str),
    /// The deadline of the whole attempt, which may take so long, came first.
    #[error("the answer did not end within {0:?}")]
    Late(Duration),
}

/// Why an exchange did not end as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its kind.
    pub class: ErrorClass,
    /// In the words of whoever noticed; never holds the URL.
    pub cause: String,
}

impl Failure {
    /// The whole-attempt deadline of `timeout` passed.
    #[must_use]
    pub fn deadline(timeout: Duration, phase: Phase) -> Self {
        let what = match phase {
            Phase::ConnectPlain | Phase::Connect | Phase::Head => "no answer",
            Phase::Body => "the answer's body did not end",
        };
        Self {
            class: ErrorClass::Timeout,
            cause: format!("{what} within {timeout:?}"),
        }
    }

    /// `connect_timeout` passed.
    #[must_use]
    pub fn no_connection() -> Self {
        Self {
            class: ErrorClass::Connect,
            cause: "no connection within connect_timeout".to_owned(),
        }
    }

    /// The host closed a connection when the TLS handshake was over on this side, and before anything was sent.
    #[must_use]
    pub fn hung_up() -> Self {
        Self {
            class: ErrorClass::Tls,
            cause: "the host closed the connection right after the handshake, before the request".to_owned(),
        }
    }

    /// The request can't be put on the wire as it is.
    #[must_use]
    pub fn unsendable(why: String) -> Self {
        Self {
            class: ErrorClass::Render,
            cause: why,
        }
    }

    /// Reads it off the error of a body that is decompressed as it comes: what the connection is not to blame for is the
    /// compression's fault.
    #[must_use]
    pub fn of_compressed(error: &(dyn Error + 'static)) -> Self {
        let failure = Self::of(error, Phase::Body);
        match all::<hyper::Error>(error).next().is_some() || all::<Broken>(error).next().is_some() {
            true => failure,
            false => Self {
                class: ErrorClass::InvalidResponse,
                ..failure
            },
        }
    }

    /// Reads it off the error of an HTTP client.
    #[must_use]
    pub fn of_client(error: &reqwest::Error, phase: Phase) -> Self {
        if error.is_decode() {
            return Self::of_compressed(error);
        }
        match error.is_connect() {
            true if error.is_timeout() && classify(error, Phase::Connect) == ErrorClass::Connect => {
                Self::no_connection()
            }
            true => Self::of(error, Phase::Connect),
            false => Self::of(error, phase),
        }
    }

    /// Whether the connection was closed before any of the request was sent, for a reason that the HTTP client does not know.
    #[must_use]
    pub fn is_unsent(error: &(dyn Error + 'static)) -> bool {
        let is_unsent = |hyper: &hyper::Error| hyper.is_canceled() || hyper.is_closed();
        all(error).any(is_unsent) && classify(error, Phase::Head) == ErrorClass::Reset
    }

    /// Reads it off an error of a connection that had come as far as `phase`.
    #[must_use]
    pub fn of(error: &(dyn Error + 'static), phase: Phase) -> Self {
        if let Some(Broken::Late(timeout)) = all(error).next() {
            return Self::deadline(*timeout, phase);
        }
        let class = classify(error, phase);
        if class == ErrorClass::Connect && innermost_io(error) == Some(io::ErrorKind::TimedOut) {
            return Self::no_connection();
        }
        let cause = chain(error)
            .last()
            .map_or_else(|| "unknown".to_owned(), ToString::to_string);
        Self { class, cause }
    }
}

/// The first rule that fits, from the surest sign to the vaguest.
fn classify(error: &(dyn Error + 'static), phase: Phase) -> ErrorClass {
    if all::<Blocked>(error).next().is_some() {
        return ErrorClass::Blocked;
    }
    if all::<LookupError>(error).next().is_some() {
        return ErrorClass::Dns;
    }
    if all::<rustls::Error>(error).next().is_some() {
        return ErrorClass::Tls;
    }
    let io = innermost_io(error);
    match phase {
        Phase::ConnectPlain => return ErrorClass::Connect,
        Phase::Connect => return while_connecting(io),
        Phase::Head | Phase::Body => {}
    }
    if let Some(class) = all::<Broken>(error)
        .next()
        .and_then(|broken| of_own(broken, phase))
    {
        return class;
    }
    if let Some(class) = all::<hyper::Error>(error)
        .next()
        .and_then(|hyper| of_hyper(hyper, phase))
    {
        return class;
    }
    if all::<reqwest::Error>(error).any(reqwest::Error::is_builder) {
        return ErrorClass::Render;
    }
    io.map_or(ErrorClass::Reset, |kind| of_io(kind, phase))
}

/// The kind of the innermost I/O error: those around it only pass it on.
fn innermost_io(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    all::<io::Error>(error).last().map(io::Error::kind)
}

/// TCP itself says refused, unreachable or timed out; a connection that was there and broke off before the
/// first request broke in the TLS handshake.
fn while_connecting(io: Option<io::ErrorKind>) -> ErrorClass {
    match io {
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => {
            ErrorClass::Tls
        }
        _ => ErrorClass::Connect,
    }
}

fn of_own(broken: &Broken, phase: Phase) -> Option<ErrorClass> {
    match broken {
        Broken::Malformed(_) => Some(ErrorClass::InvalidResponse),
        Broken::Closed if phase == Phase::Body => Some(ErrorClass::InvalidResponse),
        Broken::Closed => Some(ErrorClass::Reset),
        Broken::Late(_) => Some(ErrorClass::Timeout),
        Broken::Io(_) => None,
    }
}

fn of_hyper(error: &hyper::Error, phase: Phase) -> Option<ErrorClass> {
    match phase {
        _ if error.is_parse() => Some(ErrorClass::InvalidResponse),
        // The connection was closed in order, but earlier than `content-length` or the last chunk promised.
        Phase::Body if error.is_incomplete_message() => Some(ErrorClass::InvalidResponse),
        Phase::Head if error.is_incomplete_message() => Some(ErrorClass::Reset),
        _ => None,
    }
}

fn of_io(kind: io::ErrorKind, phase: Phase) -> ErrorClass {
    match kind {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => ErrorClass::InvalidResponse,
        io::ErrorKind::UnexpectedEof if phase == Phase::Body => ErrorClass::InvalidResponse,
        _ => ErrorClass::Reset,
    }
}

/// Every error of type `E` in the chain, outermost first.
fn all<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a E> {
    chain(error).filter_map(|link| link.downcast_ref())
}

/// The error and everything below it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |link| below(*link))
}

/// What an error was caused by. An `io::Error` that wraps another error is followed into it, which its own
/// `source` skips.
fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// How a request ends on a connection whose other end reads so many bytes of it before it closes.
    async fn ending(read: usize) -> hyper::Error {
        let (mine, mut host) = tokio::io::duplex(1024);
        let handshake = http1::handshake::<_, Empty<Bytes>>(TokioIo::new(mine));
        let (mut requests, connection) = handshake.await.unwrap();
        if read == 0 {
            drop(connection);
        } else {
            tokio::spawn(connection);
        }
        tokio::spawn(async move { host.read_exact(&mut vec![0; read]).await });
        let asked = requests.send_request(http::Request::default()).await;
        asked.map(drop).unwrap_err()
    }

    /// D6: what goes out a second time has not gone out before.
    #[tokio::test]
    async fn d6_what_was_not_sent() {
        let closed = ending(0).await;
        assert!(Failure::is_unsent(&closed), "{closed:?}");
        let seen = ending(1).await;
        assert!(!Failure::is_unsent(&seen), "{seen:?}");
    }
}
