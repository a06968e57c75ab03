//! Plain HTTP/1.1 straight to the host, over connections of our own (RFC 9112): what most requests to the same machine or
//! the same network are. A connection is not a task that others talk to: whoever has a request on it does its work
//! meanwhile, so no thread wakes another. It carries one request at a time, and waits here for the next.
//!
//! Knows nothing of deadlines, of TLS, of proxies and of what an answer means.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri, response};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use reqwest::Url;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tower_http::decompression::{Decompression, DecompressionBody};
use tower_service::Service;
use url::Position;

use super::{IDLE_MAX, KEEPALIVE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES};
use crate::delivery::dns::Resolver;
use crate::delivery::failure::{Failure, Phase};
use crate::delivery::phases::{Connecting, connecting, watch};
use crate::delivery::render::OutgoingRequest;

type Wire = Request<Full<Bytes>>;
type Body = Either<Incoming, Pin<Box<DecompressionBody<Incoming>>>>;

/// Connections that hosts have closed are noticed so often at least. Many hosts do after five seconds.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// How answers may be compressed: what is undone here, in the order of preference.
const ENCODINGS: HeaderValue = HeaderValue::from_static("zstd,gzip,deflate,br");

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
    pub async fn request(
        &self,
        request: OutgoingRequest,
        connecting: &mut Connecting,
    ) -> Result<Arriving, Failure> {
        let (url, mut wire) = written(request)?;
        loop {
            let waiting = self.idle.take(authority(&url)).await;
            let reused = waiting.is_some();
            let mut line = match waiting {
                Some(line) => line,
                None => {
                    // In a box, because few requests need it and all would carry its state about.
                    let (connected, how) = watch(Box::pin(self.connect(&url))).await;
                    connecting.add(how);
                    connected.inspect_err(|failure| self.learn(&url, failure))?
                }
            };
            let sending = line.requests.try_send_request(wire);
            match line.work(sending).await {
                Ok(response) => {
                    let (head, body) = decompressed(response).await.into_parts();
                    return Ok(Arriving {
                        head,
                        body,
                        line,
                        url,
                        idle: Arc::clone(&self.idle),
                    });
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if reused => wire = unsent,
                    _ => return Err(Failure::of(failed.error(), Phase::Head)),
                },
            }
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
            .map_err(|why| Failure::unsendable(&why))?;
        let mut connector = self.connector.clone();
        let stream = connecting(async {
            poll_fn(|context| connector.poll_ready(context)).await?;
            connector.call(host).await
        });
        let stream = match timeout(self.connect_timeout, stream).await {
            Ok(stream) => stream.map_err(|why| Failure::of(&why, Phase::ConnectPlain))?,
            Err(_) => return Err(Failure::no_connection()),
        };
        match http1::handshake(stream).await {
            Ok((requests, connection)) => Ok(Box::new(Line {
                requests,
                connection: Some(connection),
            })),
            Err(why) => Err(Failure::of(&why, Phase::Head)),
        }
    }
}

/// `host` or `host:port`, as it stands in `url` and in the header `host` (RFC 9110 §7.2).
fn authority(url: &Url) -> &str {
    &url[Position::BeforeHost..Position::AfterPort]
}

/// `request` as it goes over the wire, and its URL.
fn written(request: OutgoingRequest) -> Result<(Url, Wire), Failure> {
    let url = request.url;
    let target = PathAndQuery::try_from(&url[Position::BeforePath..Position::AfterQuery]);
    let host = HeaderValue::from_str(authority(&url)).map_err(|why| Failure::unsendable(&why))?;
    let mut wire = Request::new(Full::new(request.body));
    *wire.method_mut() = request.method;
    *wire.uri_mut() = target.map_err(|why| Failure::unsendable(&why))?.into();
    *wire.headers_mut() = request.headers;
    let headers = wire.headers_mut();
    headers.entry(header::HOST).or_insert(host);
    headers
        .entry(header::ACCEPT)
        .or_insert(HeaderValue::from_static("*/*"));
    headers.entry(header::ACCEPT_ENCODING).or_insert(ENCODINGS);
    Ok((url, wire))
}

/// One connection.
#[derive(Debug)]
struct Line {
    requests: SendRequest<Full<Bytes>>,
    /// What reads and writes, when it is polled; `None`: it is closed.
    connection: Option<Connection<TokioIo<TcpStream>, Full<Bytes>>>,
}

impl Line {
    /// Carries out `part`, which waits for the connection, and does the connection's work meanwhile.
    async fn work<F: Future>(&mut self, part: F) -> F::Output {
        let mut part = pin!(part);
        poll_fn(|context| {
            if let Poll::Ready(output) = part.as_mut().poll(context) {
                return Poll::Ready(output);
            }
            self.turn(context);
            part.as_mut().poll(context)
        })
        .await
    }

    /// Does what there is to do. Why a connection ended is told to whoever waits for an answer on it.
    fn turn(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(context).is_ready()
        {
            self.connection = None;
        }
    }

    /// Whether it can take another request, as far as is known here: the host may have closed it this moment.
    fn is_free(&mut self, context: &mut Context<'_>) -> bool {
        self.turn(context);
        self.connection.is_some() && self.requests.is_ready()
    }
}

/// An answer whose head is here, and the connection that the rest comes over.
pub(super) struct Arriving {
    /// Status and headers.
    pub head: response::Parts,
    body: Body,
    line: Box<Line>,
    url: Url,
    idle: Arc<Idle>,
}

impl Arriving {
    /// The next piece of the body, decompressed; `None`: that was all.
    ///
    /// # Errors
    /// What the exchange died of.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            match self.line.work(self.body.frame()).await {
                // Trailers are nobody's here.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_) => continue,
                },
                Some(Err(why)) => {
                    return Err(match self.body {
                        Either::Left(_) => Failure::of(&*why, Phase::Body),
                        Either::Right(_) => Failure::of_compressed(&*why),
                    });
                }
                None => return Ok(None),
            }
        }
    }

    /// Hands the connection of an answer that has been read to its end to the next request.
    pub async fn finish(mut self) {
        if now(|context| self.line.is_free(context)).await {
            self.idle.give(authority(&self.url), self.line);
        }
    }
}

/// `response` with its `content-encoding` undone, if it has one that is known here.
async fn decompressed(response: Response<Incoming>) -> Response<Body> {
    if !response.headers().contains_key(header::CONTENT_ENCODING) {
        return response.map(Either::Left);
    }
    let Ok(response) = Decompression::new(Unwrap).call(Request::new(response)).await;
    response.map(|body| Either::Right(Box::pin(body)))
}

/// A service for [`Decompression`] to stand before, whose answer is what it was asked with.
struct Unwrap;

impl Service<Request<Response<Incoming>>> for Unwrap {
    type Response = Response<Incoming>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Incoming>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Response<Incoming>>) -> Self::Future {
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
    lines: HashMap<Box<str>, Vec<(Instant, Box<Line>)>>,
    /// Whether somebody will come and close those that have waited too long.
    is_watched: bool,
}

impl Idle {
    /// The connection to `authority` that has waited least, if any is still open.
    async fn take(&self, authority: &str) -> Option<Box<Line>> {
        loop {
            let (_, mut line) = self.lock().lines.get_mut(authority)?.pop()?;
            if now(|context| line.is_free(context)).await {
                return Some(line);
            }
        }
    }

    fn give(self: &Arc<Self>, authority: &str, line: Box<Line>) {
        let since = Instant::now();
        let mut waiting = self.lock();
        match waiting.lines.get_mut(authority) {
            Some(lines) => lines.push((since, line)),
            None => {
                waiting.lines.insert(authority.into(), vec![(since, line)]);
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
        waiting.lines.retain(|_, lines| {
            lines.retain_mut(|(since, line)| *since + IDLE_MAX > now && line.is_free(context));
            !lines.is_empty()
        });
        let oldest = waiting.lines.values().filter_map(|lines| lines.first());
        let next = oldest.map(|(since, _)| *since + IDLE_MAX).min();
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

/// Does something that needs the task's waker and waits for nothing.
async fn now<T>(mut act: impl FnMut(&mut Context<'_>) -> T) -> T {
    poll_fn(|context| Poll::Ready(act(context))).await
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};
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
                headers: HeaderMap::new(),
                body: Bytes::new(),
            };
            let mut connecting = Connecting::default();
            let mut arriving = lines.request(request, &mut connecting).await.unwrap();
            assert_eq!(arriving.chunk().await.unwrap(), None);
            arriving.finish().await;
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
