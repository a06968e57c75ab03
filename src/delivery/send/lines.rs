//! Plain HTTP/1.1 straight to the host, over connections of our own (RFC 9112): what most requests to the same machine or
//! the same network are. A connection carries one request at a time, and waits here for the next.
//!
//! Knows nothing of TLS, of proxies and of what an answer means.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready as come};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Either};
use hyper::body::{Body, Frame};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep_until, timeout};
use tower_http::decompression::{Decompression, DecompressionBody};
use tower_service::Service;

use super::deadline::Deadline;
use super::head::{Framing, Head};
use super::line::{self, Outgoing};
use super::{IDLE_MAX, KEEPALIVE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, authority};
use crate::delivery::dns::Resolver;
use crate::delivery::failure::{Broken, Failure, Phase};
use crate::delivery::fields::Fields;
use crate::delivery::phases::{Connecting, connecting, watch};
use crate::delivery::render::OutgoingRequest;

/// Connections that hosts have closed are noticed so often at least. Many hosts do after five seconds.
const TIDY_EVERY: Duration = Duration::from_secs(5);

type Line = line::Line<TcpStream>;

/// Makes connections, and keeps those that wait. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    connector: HttpConnector<Resolver>,
    connect_timeout: Duration,
    resolver: Resolver,
    idle: Arc<Idle>,
}

impl Lines {
    /// No connections yet. Names are looked up by `resolver`; addresses in URLs are the caller's to check.
    pub fn new(resolver: Resolver, connect_timeout: Duration) -> Self {
        let mut connector = HttpConnector::new_with_resolver(resolver.clone());
        connector.set_connect_timeout(Some(connect_timeout));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(KEEPALIVE));
        connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        connector.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        Self {
            connector,
            connect_timeout,
            resolver,
            idle: Arc::default(),
        }
    }

    /// Sends `request`, whose URL begins with `http:`, and waits for the head of the answer. A connection that turns
    /// out to be closed before anything of the request was written is replaced by another one.
    ///
    /// How it connected, if it had to, is added to `connecting`.
    ///
    /// # Errors
    /// What the exchange died of.
    pub async fn request<'a>(
        &'a self,
        request: &OutgoingRequest,
        deadline: Deadline,
        connecting: &mut Connecting,
    ) -> Result<Arriving<'a>, Failure> {
        let mut outgoing = Outgoing::new(request)?;
        let url = &request.url;
        loop {
            let waiting = self.idle.take(authority(url)).await;
            let reused = waiting.is_some();
            let mut line = match waiting {
                Some(line) => line,
                None => {
                    // In a box, because few requests need it and all would carry its state about.
                    let connect = watch(Box::pin(self.connect(url)));
                    let (connected, how) = deadline.bound(Phase::Head, connect).await?;
                    connecting.add(how);
                    connected.inspect_err(|failure| self.learn(url, failure))?
                }
            };
            line.put(outgoing, deadline);
            match poll_fn(|context| line.poll_head(context)).await {
                Ok(head) => return Ok(self.arriving(head, line).await),
                Err(broken) => match line.untouched() {
                    Some(unsent) if reused && !matches!(broken, Broken::Late(_)) => outgoing = unsent,
                    _ => return Err(Failure::of(&broken, Phase::Head)),
                },
            }
        }
    }

    async fn arriving(&self, head: Head, line: Box<Line>) -> Arriving<'_> {
        let is_compressed = head.headers.contains(&CONTENT_ENCODING);
        let reading = Reading {
            framing: head.framing,
            way_back: head.keeps_alive.then_some(&self.idle),
            line: Some(line),
        };
        if !is_compressed {
            return Arriving {
                status: head.status,
                headers: head.headers,
                body: Either::Left(reading),
            };
        }
        let mut response = Response::new(reading);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers.into();
        let Ok(response) = Decompression::new(Unwrap).call(Request::new(response)).await;
        let (head, body) = response.into_parts();
        Arriving {
            status: head.status,
            headers: head.headers.into(),
            body: Either::Right(Box::pin(body)),
        }
    }

    fn learn(&self, url: &Url, failure: &Failure) {
        if let Some(name) = url.host_str() {
            self.resolver.learn(name, failure);
        }
    }

    async fn connect(&self, url: &Url) -> Result<Box<Line>, Failure> {
        let host = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(authority(url))
            .path_and_query(PathAndQuery::from_static("/"))
            .build()
            .map_err(|why| Failure::unsendable(why.to_string()))?;
        let mut connector = self.connector.clone();
        let stream = connecting(async {
            poll_fn(|context| connector.poll_ready(context)).await?;
            connector.call(host).await
        });
        match timeout(self.connect_timeout, stream).await {
            Ok(Ok(stream)) => Ok(Box::new(Line::new(authority(url), stream.into_inner()))),
            Ok(Err(why)) => Err(Failure::of(&why, Phase::ConnectPlain)),
            Err(_) => Err(Failure::no_connection()),
        }
    }
}

/// An answer whose head is here.
pub(super) struct Arriving<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: Fields,
    body: Either<Reading<'a>, Pin<Box<DecompressionBody<Reading<'a>>>>>,
}

impl Arriving<'_> {
    /// The next piece of the body, with its `content-encoding` undone if that is known here; `None`: that was all.
    ///
    /// # Errors
    /// What the exchange died of.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let compressed = match &mut self.body {
            Either::Left(reading) => {
                let piece = poll_fn(|context| reading.poll_piece(context)).await;
                return piece.map_err(|broken| Failure::of(&broken, Phase::Body));
            }
            Either::Right(compressed) => compressed,
        };
        while let Some(frame) = compressed.frame().await {
            let frame = frame.map_err(|why| Failure::of_compressed(&*why))?;
            // What is no data is a trailer, which is nobody's here.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// The body of an answer, and the connection it comes over, which waits for the next request once it has been read to its
/// end.
struct Reading<'a> {
    framing: Framing,
    /// `None`: the body has ended.
    line: Option<Box<Line>>,
    /// Where the connection waits; `None`: it may not be used again.
    way_back: Option<&'a Arc<Idle>>,
}

impl Reading<'_> {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        let Some(line) = &mut self.line else {
            return Poll::Ready(Ok(None));
        };
        let piece = come!(line.poll_piece(&mut self.framing, context));
        if !matches!(piece, Ok(Some(_)))
            && let Some(mut line) = self.line.take()
            && let Some(idle) = self.way_back.take()
            && !matches!(self.framing, Framing::Close)
            && piece.is_ok()
            && line.is_free()
        {
            idle.give(line);
        }
        Poll::Ready(piece)
    }
}

impl Body for Reading<'_> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let piece = self.get_mut().poll_piece(context);
        piece.map(|piece| piece.transpose().map(|piece| piece.map(Frame::data)))
    }
}

/// A service for [`Decompression`] to stand before, whose answer is what it was asked with.
struct Unwrap;

impl<'a> Service<Request<Response<Reading<'a>>>> for Unwrap {
    type Response = Response<Reading<'a>>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Reading<'a>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Response<Reading<'a>>>) -> Self::Future {
        ready(Ok(request.into_body()))
    }
}

/// The connections that wait for a request.
#[derive(Debug, Default)]
struct Idle {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By authority; those that have waited longest stand first.
    lines: HashMap<Box<str>, Vec<Spare>>,
    /// Whether somebody will come and close those that have waited too long.
    is_watched: bool,
}

/// A connection that waits.
#[derive(Debug)]
struct Spare {
    line: Box<Line>,
    /// When somebody first looked how long it waits. Not when it began to: each request would have to ask the clock, and a
    /// few seconds do not matter.
    seen: Option<Instant>,
}

impl Idle {
    /// The connection to `authority` that has waited least, if any is still open.
    async fn take(&self, authority: &str) -> Option<Box<Line>> {
        loop {
            let Spare { mut line, .. } = self.lock().lines.get_mut(authority)?.pop()?;
            if now(|context| line.is_open(context)).await {
                return Some(line);
            }
        }
    }

    fn give(self: &Arc<Self>, line: Box<Line>) {
        let mut waiting = self.lock();
        match waiting.lines.get_mut(line.authority()) {
            Some(spares) => spares.push(Spare { line, seen: None }),
            None => {
                let authority = line.authority().into();
                waiting.lines.insert(authority, vec![Spare { line, seen: None }]);
            }
        }
        if !std::mem::replace(&mut waiting.is_watched, true) {
            tokio::spawn(tidy(Arc::downgrade(self)));
        }
    }

    /// Closes those that have waited too long, and those that the host has closed. Says when the next will have waited too
    /// long; `None`: nobody waits, so nobody watches.
    fn tidy(&self, now: Instant, context: &mut Context<'_>) -> Option<Instant> {
        let mut waiting = self.lock();
        waiting.lines.retain(|_, spares| {
            spares.retain_mut(|Spare { line, seen }| {
                *seen.get_or_insert(now) + IDLE_MAX > now && line.is_open(context)
            });
            !spares.is_empty()
        });
        let oldest = waiting.lines.values().filter_map(|spares| spares.first());
        let next = oldest.filter_map(|spare| spare.seen).min();
        let next = next.map(|seen| seen + IDLE_MAX);
        waiting.is_watched = next.is_some();
        next
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks after the connections of `idle` until none is left.
async fn tidy(idle: Weak<Idle>) {
    let look = |context: &mut Context<'_>| idle.upgrade()?.tidy(Instant::now(), context);
    while let Some(next) = now(look).await {
        sleep_until(next.min(Instant::now() + TIDY_EVERY)).await;
    }
}

/// Does something that needs the task's waker and waits for nothing. A task that has done much since it last waited would be
/// told that nothing has come, whether it has or not; not here.
async fn now<T>(mut act: impl FnMut(&mut Context<'_>) -> T) -> T {
    unconstrained(poll_fn(|context| Poll::Ready(act(context)))).await
}

#[cfg(test)]
mod tests {
    use http::Method;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::domain::network::NetworkPolicy;

    /// A connection that has waited too long is closed, and nobody watches when none waits.
    #[tokio::test]
    async fn idle_connections_are_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let host = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            stream.read(&mut request).await.unwrap()
        };
        let client = async {
            let resolver = Resolver::new(Arc::default(), NetworkPolicy::default());
            let lines = Lines::new(resolver, Duration::from_secs(10));
            let request = OutgoingRequest {
                method: Method::GET,
                url: url.parse().unwrap(),
                headers: Fields::default(),
                body: Bytes::new(),
            };
            let deadline = Deadline::new(Instant::now(), IDLE_MAX);
            let mut connecting = Connecting::default();
            let mut arriving = lines.request(&request, deadline, &mut connecting).await.unwrap();
            assert_eq!(arriving.chunk().await.unwrap(), None);
            assert!(lines.idle.lock().is_watched);
            let next = now(|context| lines.idle.tidy(Instant::now(), context)).await;
            assert!(next.is_some_and(|next| next > Instant::now()));
            let late = Instant::now() + IDLE_MAX;
            assert_eq!(now(|context| lines.idle.tidy(late, context)).await, None);
            assert!(!lines.idle.lock().is_watched);
            lines
        };
        let (rest, _lines) = tokio::join!(host, client);
        assert_eq!(
            rest, 0,
            "the connection was closed while the lines are still there"
        );
    }
}
