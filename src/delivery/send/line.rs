//! One connection to a host. Whoever has a request on it writes, reads and waits; it is no task of its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use super::deadline::{Alarm, Deadline};
use super::head::{self, Framing, Head};
use crate::delivery::failure::{Broken, Failure};
use crate::delivery::render::OutgoingRequest;

/// Read at once; most answers are shorter.
const READ_BYTES: usize = 4 * 1024;
/// Room for what comes that a connection may keep while it waits.
const KEPT_BYTES_MAX: usize = 16 * 1024;
/// A body up to this is copied behind the head, because writing from two places costs more than the copy.
const SHORT_BYTES: usize = 8 * 1024;
/// About what a head has.
const HEAD_BYTES: usize = 512;

/// A request as it goes over the wire, and how much of it has gone.
#[derive(Debug)]
pub(super) struct Outgoing {
    method: Method,
    /// The head, and the body if it is short.
    first: Vec<u8>,
    /// So much of that is written.
    written: usize,
    /// What is left of a longer body.
    body: Bytes,
}

impl Outgoing {
    /// # Errors
    /// What of it can't be written.
    pub(super) fn new(request: &OutgoingRequest) -> Result<Self, Failure> {
        let is_short = request.body.len() <= SHORT_BYTES;
        let room = if is_short { request.body.len() } else { 0 };
        let mut first = Vec::with_capacity(HEAD_BYTES + room);
        head::write(request, &mut first)?;
        if is_short {
            first.extend_from_slice(&request.body);
        }
        Ok(Self {
            method: request.method.clone(),
            first,
            written: 0,
            body: if is_short {
                Bytes::new()
            } else {
                request.body.clone()
            },
        })
    }

    /// Whether nothing of it has been written.
    pub(super) fn is_untouched(&self) -> bool {
        self.written == 0
    }

    fn is_written(&self) -> bool {
        self.written == self.first.len() && self.body.is_empty()
    }

    fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let first = &self.first[self.written..];
            let stream = Pin::new(&mut *stream);
            let bytes = match (first.is_empty(), self.body.is_empty()) {
                (false, true) => ready!(stream.poll_write(context, first))?,
                (true, _) => ready!(stream.poll_write(context, &self.body))?,
                (false, false) => {
                    let both = [io::IoSlice::new(first), io::IoSlice::new(&self.body)];
                    ready!(stream.poll_write_vectored(context, &both))?
                }
            };
            if bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_first = bytes.min(first.len());
            self.written += of_first;
            self.body.advance(bytes - of_first);
        }
        Poll::Ready(Ok(()))
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line<S> {
    /// Where it leads: host and port.
    authority: Box<str>,
    stream: S,
    /// The request it is at, if it is at one.
    outgoing: Option<Outgoing>,
    /// Why no more of it can be written. The host may have answered before.
    unwritable: Option<io::Error>,
    /// What came and was not taken.
    inbox: BytesMut,
    /// Of the request it is or was at.
    deadline: Option<Deadline>,
    alarm: Alarm,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// One to `authority` that has just been made.
    pub(super) fn new(authority: &str, stream: S) -> Self {
        Self {
            authority: authority.into(),
            stream,
            outgoing: None,
            unwritable: None,
            inbox: BytesMut::new(),
            deadline: None,
            alarm: Alarm::default(),
        }
    }

    /// Where it leads: host and port.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Has the connection carry `outgoing` next, and the answer come before `deadline`.
    pub(super) fn put(&mut self, outgoing: Outgoing, deadline: Deadline) {
        self.outgoing = Some(outgoing);
        self.deadline = Some(deadline);
    }

    /// The request, if nothing of it was written.
    pub(super) fn untouched(self) -> Option<Outgoing> {
        self.outgoing.filter(Outgoing::is_untouched)
    }

    /// Writes as much as goes now, and looks whether the head of the answer is here.
    ///
    /// # Errors
    /// What the exchange died of.
    pub(super) fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        self.write_on(context);
        loop {
            let before = self.inbox.len();
            if ready!(self.read_in_time(context))? == 0 {
                return Poll::Ready(Err(self.unwritable.take().map_or(Broken::Closed, Broken::Io)));
            }
            // A head that comes byte by byte is not parsed with each of them.
            let is_worth_it =
                before == 0 || self.inbox[before..].contains(&b'\n') || self.inbox.len() >= head::BYTES_MAX;
            let method = self
                .outgoing
                .as_ref()
                .map_or(&Method::GET, |outgoing| &outgoing.method);
            if is_worth_it && let Some(head) = head::read(method, &mut self.inbox)? {
                return Poll::Ready(Ok(head));
            }
        }
    }

    /// The next piece of a body that ends as `framing` has it, which is kept up to date; `None`: that was all.
    ///
    /// # Errors
    /// What the exchange died of.
    pub(super) fn poll_piece(
        &mut self,
        framing: &mut Framing,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Broken>> {
        // Some hosts begin to answer while they read.
        self.write_on(context);
        loop {
            let piece = match framing {
                Framing::Length(0) => return Poll::Ready(Ok(None)),
                Framing::Length(left) => {
                    let room = usize::try_from(*left).unwrap_or(usize::MAX);
                    let piece = self.take(room);
                    *left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
                    piece
                }
                Framing::Chunked(chunks) => match chunks.next(&mut self.inbox)? {
                    None if chunks.is_at_end() => return Poll::Ready(Ok(None)),
                    piece => piece,
                },
                Framing::Close => self.take(usize::MAX),
            };
            if piece.is_some() {
                return Poll::Ready(Ok(piece));
            }
            if ready!(self.read_in_time(context))? == 0 {
                return Poll::Ready(match framing {
                    Framing::Close => Ok(None),
                    Framing::Length(_) | Framing::Chunked(_) => Err(Broken::Closed),
                });
            }
        }
    }

    /// Whether its last exchange is over and has left nothing behind. Then it lets go of that, and of most of its memory.
    pub(super) fn is_free(&mut self) -> bool {
        if self.outgoing.as_ref().is_some_and(Outgoing::is_written) {
            self.outgoing = None;
        }
        if self.inbox.is_empty() && self.inbox.try_reclaim(KEPT_BYTES_MAX + 1) {
            self.inbox = BytesMut::new();
        }
        self.outgoing.is_none() && self.unwritable.is_none() && self.inbox.is_empty()
    }

    /// Whether one that waited can take another request, as far as is known here: the host may have closed it this moment.
    /// Nothing may have come unasked, and the end of the connection least of all.
    pub(super) fn is_open(&mut self, context: &mut Context<'_>) -> bool {
        self.read_on(context).is_pending()
    }

    fn write_on(&mut self, context: &mut Context<'_>) {
        if let Some(outgoing) = &mut self.outgoing
            && self.unwritable.is_none()
            && let Poll::Ready(Err(why)) = outgoing.poll_write(&mut self.stream, context)
        {
            self.unwritable = Some(why);
        }
    }

    /// As [`Line::read_on`], until the deadline.
    fn read_in_time(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, Broken>> {
        if let Poll::Ready(read) = self.read_on(context) {
            return Poll::Ready(read.map_err(Broken::Io));
        }
        let Some(Deadline { at, timeout }) = self.deadline else {
            return Poll::Pending;
        };
        self.alarm.poll(at, context).map(|()| Err(Broken::Late(timeout)))
    }

    /// Reads what there is; 0: the host has closed its side.
    fn read_on(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.inbox.reserve(READ_BYTES);
        poll_read_buf(Pin::new(&mut self.stream), context, &mut self.inbox)
    }

    fn take(&mut self, bytes_max: usize) -> Option<Bytes> {
        let bytes = bytes_max.min(self.inbox.len());
        (bytes > 0).then(|| {
            let piece = Bytes::copy_from_slice(&self.inbox[..bytes]);
            self.inbox.advance(bytes);
            piece
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    /// What waits for the next request holds nothing of the last one, and no more room than it needs.
    #[tokio::test]
    async fn a_free_connection_holds_no_request() {
        let (near, mut host) = duplex(1024);
        let body = Bytes::from(vec![b'x'; 2 * SHORT_BYTES]);
        let request = OutgoingRequest {
            method: Method::POST,
            url: "http://host/".parse().unwrap(),
            headers: crate::delivery::fields::Fields::default(),
            body: body.clone(),
        };
        let bytes = body.len();
        let answering = async {
            let mut asked = Vec::new();
            while !asked.ends_with(&vec![b'x'; bytes]) {
                assert!(host.read_buf(&mut asked).await.unwrap() > 0);
            }
            let long = "y".repeat(KEPT_BYTES_MAX);
            let answer = format!("HTTP/1.1 200 OK\r\nlong: {long}\r\ncontent-length: 0\r\n\r\n");
            host.write_all(answer.as_bytes()).await.unwrap();
            host
        };
        let asking = async {
            let mut line = Line::new("host", near);
            let deadline = Deadline::new(Instant::now(), Duration::from_secs(60));
            line.put(Outgoing::new(&request).unwrap(), deadline);
            drop(request);
            let mut head = poll_fn(|context| line.poll_head(context)).await.unwrap();
            let piece = poll_fn(|context| line.poll_piece(&mut head.framing, context)).await;
            assert_eq!(piece.unwrap(), None);
            assert!(!body.is_unique() && line.inbox.try_reclaim(KEPT_BYTES_MAX + 1));
            assert!(line.is_free() && poll_fn(|context| Poll::Ready(line.is_open(context))).await);
            line
        };
        let (_host, mut line) = tokio::join!(answering, asking);
        assert!(body.is_unique(), "its body is gone");
        assert!(!line.inbox.try_reclaim(KEPT_BYTES_MAX + 1));
    }
}
