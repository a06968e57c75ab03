//! A receiver of deliveries: an HTTP/1.1 server that counts requests, hands them on, and answers as
//! [`Behaviour`] says. Fast enough not to be the limit when it is delivered to under load; everything that
//! only some behaviours need is off the path of the others.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Interval, interval, sleep};

use super::behaviour::{Behaviour, CREATED};
use crate::daemon::clock::Clock;
use crate::domain::time::Timestamp;

/// Between the bytes of a dripping body.
const DRIP: Duration = Duration::from_millis(100);
/// Ids remembered for [`Behaviour::FailFirst`]; past it all are forgotten.
const FAILED_IDS_MAX: usize = 1_000_000;
/// What large bodies are made of.
static FILLING: [u8; 65_536] = [b'x'; 65_536];

/// How a receiver is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The answer on paths that ask for nothing special.
    pub otherwise: Behaviour,
    /// So many requests wait for [`Receiver::recv`]; past it senders wait for their answers. 0: requests are
    /// counted only.
    pub keep: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            otherwise: Behaviour::Status(200),
            keep: 1024,
        }
    }
}

/// One request, wholly received.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it was.
    pub at: Timestamp,
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How it is answered.
    pub answer: Behaviour,
}

/// What a receiver has seen so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Requests wholly received.
    pub requests: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
}

/// What all connections share.
struct Shared {
    options: Options,
    connections: AtomicU64,
    requests: AtomicU64,
    body_bytes: AtomicU64,
    received: mpsc::Sender<Received>,
    /// Requests so far by `webhook-id`, of those that were to fail at first.
    failed: Mutex<HashMap<Box<[u8]>, u32>>,
}

/// A running receiver; stops, and closes its connections, when it is dropped.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    received: mpsc::Receiver<Received>,
    accepting: JoinHandle<()>,
}

impl Receiver {
    /// Listens on `addr` (port 0 takes a free one) and serves on the current tokio runtime.
    ///
    /// # Errors
    /// Those of binding.
    pub async fn bind(addr: SocketAddr, options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let (sender, received) = mpsc::channel(options.keep.max(1));
        let shared = Arc::new(Shared {
            options,
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
            received: sender,
            failed: Mutex::default(),
        });
        let addr = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self {
            addr,
            shared,
            received,
            accepting,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has seen so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connections: read(&self.shared.connections),
            requests: read(&self.shared.requests),
            body_bytes: read(&self.shared.body_bytes),
        }
    }

    /// The next request, as soon as there is one. Never ends with [`Options::keep`] 0.
    pub async fn recv(&mut self) -> Option<Received> {
        self.received.recv().await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Serves connections until it is aborted, which ends them too.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    conversations.spawn(converse(stream, shared.clone()));
                }
                // Out of file descriptors, most likely: some will come free.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = conversations.join_next() => {}
        }
    }
}

/// One connection, to its end; a rude answer is given on the bare socket, below HTTP.
async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(&shared, request));
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let Err(error) = (&mut connection).await else {
        return;
    };
    let rude = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<Rude>())
        .copied();
    let mut stream = connection.into_parts().io.into_inner();
    // Whoever is at the other end gets what it gets: there is nobody to tell of a failure here.
    match rude {
        Some(Rude::Reset) => drop(stream.set_zero_linger()),
        Some(Rude::Garbage) => drop(stream.write_all(b"\x00\x01 this is not HTTP\r\n\r\n").await),
        Some(Rude::Close) | None => {}
    }
}

/// Ways to answer that HTTP has no words for.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Rude {
    #[error("to be reset")]
    Reset,
    #[error("to be closed")]
    Close,
    #[error("to get garbage")]
    Garbage,
}

type Answer = Response<Either<Full<Bytes>, Filler>>;

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Answer, Rude> {
    let (head, body) = request.into_parts();
    let Ok(body) = read(shared, body).await else {
        return Err(Rude::Close);
    };
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let asked = Behaviour::of_path(head.uri.path()).unwrap_or(shared.options.otherwise);
    let behaviour = shared.settle(asked, &head.headers);
    if shared.options.keep > 0 {
        let received = Received {
            at: Clock::wall(),
            method: head.method,
            path: head
                .uri
                .path_and_query()
                .map_or_else(String::new, ToString::to_string),
            headers: head.headers,
            body,
            answer: behaviour,
        };
        // Fails only when the receiver is being dropped, and this connection with it.
        let _ = shared.received.send(received).await;
    }
    perform(behaviour).await
}

/// The whole body; empty when requests are only counted.
async fn read(shared: &Shared, mut body: Incoming) -> Result<Bytes, hyper::Error> {
    if shared.options.keep > 0 {
        let bytes = body.collect().await?.to_bytes();
        shared.body_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        return Ok(bytes);
    }
    while let Some(frame) = body.frame().await {
        let length = frame?.data_ref().map_or(0, Bytes::len);
        shared.body_bytes.fetch_add(length as u64, Ordering::Relaxed);
    }
    Ok(Bytes::new())
}

impl Shared {
    /// What [`Behaviour::FailFirst`] means for this request; any other behaviour as it is.
    fn settle(&self, behaviour: Behaviour, headers: &HeaderMap) -> Behaviour {
        let Behaviour::FailFirst { tries, status } = behaviour else {
            return behaviour;
        };
        let id = headers
            .get("webhook-id")
            .map_or(&b""[..], |value| value.as_bytes());
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= FAILED_IDS_MAX {
            failed.clear();
        }
        let seen = failed.entry(id.into()).or_insert(0);
        *seen = seen.saturating_add(1);
        Behaviour::Status(if *seen <= tries { status } else { 200 })
    }
}

/// Does what `behaviour` says. [`Behaviour::FailFirst`] has been settled before.
async fn perform(behaviour: Behaviour) -> Result<Answer, Rude> {
    let plain = |status: u16| {
        let mut answer = Response::new(Either::Left(Full::default()));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        answer
    };
    let filled = |filler| Response::new(Either::Right(filler));
    match behaviour {
        Behaviour::Status(status) | Behaviour::FailFirst { status, .. } => Ok(plain(status)),
        Behaviour::Created => {
            let mut answer = Response::new(Either::Left(Full::new(Bytes::from_static(CREATED.as_bytes()))));
            *answer.status_mut() = StatusCode::CREATED;
            let json = header::HeaderValue::from_static("application/json");
            answer.headers_mut().insert(header::CONTENT_TYPE, json);
            Ok(answer)
        }
        Behaviour::Slow(delay) => {
            sleep(delay).await;
            Ok(plain(200))
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Drip => Ok(filled(Filler {
            left: u64::MAX,
            pace: Some(interval(DRIP)),
        })),
        Behaviour::Big(bytes) => Ok(filled(Filler {
            left: bytes,
            pace: None,
        })),
        Behaviour::Reset => Err(Rude::Reset),
        Behaviour::Close => Err(Rude::Close),
        Behaviour::Garbage => Err(Rude::Garbage),
        Behaviour::Redirect => {
            let mut answer = plain(302);
            answer
                .headers_mut()
                .insert(header::LOCATION, header::HeaderValue::from_static("/ok"));
            Ok(answer)
        }
        Behaviour::RetryAfter(seconds) => {
            let mut answer = plain(503);
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            Ok(answer)
        }
    }
}

/// A body of meaningless bytes, made as it is sent: as fast as it is read, or one byte at a time.
struct Filler {
    left: u64,
    pace: Option<Interval>,
}

impl Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let most = match &mut self.pace {
            Some(pace) => {
                ready!(pace.poll_tick(cx));
                1
            }
            None => FILLING.len(),
        };
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(most);
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&FILLING[..length])))))
    }

    fn size_hint(&self) -> SizeHint {
        match self.pace {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::Client;

    async fn receiver(keep: usize) -> Receiver {
        Receiver::bind(
            "127.0.0.1:0".parse().unwrap(),
            Options {
                keep,
                ..Options::default()
            },
        )
        .await
        .unwrap()
    }

    fn client() -> Client {
        Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap()
    }

    /// H4: what was sent is handed on, in order, over one connection.
    #[tokio::test]
    async fn h4_requests_are_handed_on() {
        let mut receiver = receiver(10).await;
        let client = client();
        for n in 0..3 {
            let url = format!("http://{}/hook?n={n}", receiver.addr());
            let answer = client
                .put(url)
                .header("x-n", n)
                .body(format!("body {n}"))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), 200);
        }
        for n in 0..3 {
            let received = receiver.recv().await.unwrap();
            assert_eq!(
                (received.method, received.path),
                (Method::PUT, format!("/hook?n={n}"))
            );
            assert_eq!(received.headers["x-n"], n.to_string());
            assert_eq!(received.body, format!("body {n}"));
            assert_eq!(received.answer, Behaviour::Status(200));
        }
        assert_eq!(
            receiver.counts(),
            Counts {
                connections: 1,
                requests: 3,
                body_bytes: 18
            }
        );
    }

    #[tokio::test]
    async fn counting_only_never_waits_for_a_reader() {
        let receiver = receiver(0).await;
        let client = client();
        for _ in 0..10 {
            client
                .post(format!("http://{}/", receiver.addr()))
                .body("12345")
                .send()
                .await
                .unwrap();
        }
        assert_eq!(
            receiver.counts(),
            Counts {
                connections: 1,
                requests: 10,
                body_bytes: 50
            }
        );
    }

    /// H4: answers that are still HTTP.
    #[tokio::test]
    async fn h4_polite_answers() {
        let receiver = receiver(0).await;
        let client = client();
        for (path, id, status) in [
            ("/status/418", "a", 418),
            ("/gone", "a", 410),
            ("/redirect", "a", 302),
            ("/retry-after/7", "a", 503),
            ("/fail-first/2/500", "a", 500),
            ("/fail-first/2/500", "b", 500),
            ("/fail-first/2/500", "a", 500),
            ("/fail-first/2/500", "a", 200),
            ("/fail-first/2/500", "b", 500),
            ("/slow/20", "a", 200),
        ] {
            let request = client
                .post(format!("http://{}{path}", receiver.addr()))
                .header("webhook-id", id);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), status, "{path} {id}");
            let expected = (status == 503).then_some("7");
            assert_eq!(
                answer
                    .headers()
                    .get("retry-after")
                    .map(|value| value.to_str().unwrap()),
                expected
            );
        }
        let big = client
            .get(format!("http://{}/big/200000", receiver.addr()))
            .send()
            .await
            .unwrap();
        assert_eq!(big.content_length(), Some(200_000));
        assert_eq!(big.bytes().await.unwrap().len(), 200_000);
    }

    /// H4: answers that are not.
    #[tokio::test]
    async fn h4_rude_answers() {
        let receiver = receiver(0).await;
        let client = client();
        for (path, expected) in [
            ("/reset", "Connection reset by peer"),
            ("/close", "connection closed before message completed"),
            ("/garbage", "invalid HTTP version parsed"),
        ] {
            let error = client
                .post(format!("http://{}{path}", receiver.addr()))
                .body("x")
                .send()
                .await
                .unwrap_err();
            assert!(chain(&error).contains(expected), "{path}: {error:?}");
        }
        for path in ["/hang", "/drip"] {
            let request = client
                .get(format!("http://{}{path}", receiver.addr()))
                .timeout(Duration::from_millis(100));
            let ended = async { request.send().await?.bytes().await };
            assert!(ended.await.unwrap_err().is_timeout(), "{path}");
        }
    }

    fn chain(error: &dyn std::error::Error) -> String {
        std::iter::successors(Some(error), |link| link.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    }

    #[tokio::test]
    async fn dropping_it_closes_its_connections() {
        let receiver = receiver(0).await;
        let addr = receiver.addr();
        let request = client().get(format!("http://{addr}/hang")).send();
        let hanging = tokio::spawn(request);
        while receiver.counts().requests == 0 {
            tokio::task::yield_now().await;
        }
        drop(receiver);
        assert!(hanging.await.unwrap().is_err());
        assert!(TcpStream::connect(addr).await.is_err());
    }
}
