//! Couriers against real servers: sockets on port 0 whose every byte the test decides, so that each way an
//! exchange can end is shown with the class and the evidence it leaves. Also the endpoint and the event that
//! the tests of this room start from.

mod rebinding;

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::render::{Composer, OutgoingRequest};
use super::scene::Load;
use super::send::{Bounds, Clients};
use super::{Couriers, Tried, sign};
use crate::domain::endpoint::{
    BodyFormat, DocumentKind, Endpoint, Preset, Settings, SignPolicy, SignScheme, SigningKey, SigningSecret,
    fixture,
};
use crate::domain::event::{Event, EventHead};
use crate::domain::outcome::{EXCERPT_BYTES_MAX, ErrorClass, Outcome};
use crate::domain::time::Timestamp;
use crate::template::{Expression, Part, Secrets, Target, Template};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// For deadlines that are meant to pass.
const SHORT: Duration = Duration::from_millis(150);

/// An endpoint at `url` with the defaults of the configuration.
pub(super) fn endpoint(url: &str) -> Endpoint {
    fixture::endpoint("test", url)
}

/// The request for try `number` at `event`, without credentials and signatures.
pub(super) fn composed(
    endpoint: &Endpoint,
    event: &Event,
    number: u32,
    now: Timestamp,
) -> Result<OutgoingRequest, String> {
    let composer = Composer::new(endpoint)?;
    let load = load(event, number, now);
    let course = composer.course(&load)?;
    composer.compose(&load, &course, 0)
}

/// Try `number` at `event` alone.
pub(super) fn load(event: &Event, number: u32, now: Timestamp) -> Load<'_> {
    Load::alone(event, number, now)
}

/// An event with this id whose JSON is `json`.
pub(super) fn event(id: &str, json: &str) -> Event {
    Event {
        head: EventHead::new(id, "/test", "test.event", Timestamp(1_700_000_000_000)),
        json: Bytes::copy_from_slice(json.as_bytes()),
    }
}

/// A server of the test's own making.
struct Peer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Every request, head and body, as it came.
    requests: Arc<Mutex<Vec<String>>>,
}

/// What a [`Peer`] does to a connection once it has answered.
#[derive(Clone, Copy)]
enum Then {
    KeepAlive,
    Close,
    Reset,
}

impl Peer {
    /// Gives each connection to `script`.
    async fn scripted<F, S>(script: F) -> Self
    where
        F: Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let (connections, requests) = (peer.connections.clone(), peer.requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(stream, requests.clone()));
            }
        });
        peer
    }

    /// Answers each request with these bytes.
    async fn answering(answer: impl Into<Vec<u8>>, then: Then) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::scripted(move |mut stream, requests| {
            let answer = answer.clone();
            async move {
                while let Some(request) = read_request(&mut stream).await {
                    requests.lock().unwrap().push(request);
                    let _ = stream.write_all(&answer).await;
                    match then {
                        Then::KeepAlive => {}
                        Then::Close => break,
                        Then::Reset => return stream.set_zero_linger().unwrap(),
                    }
                }
            }
        })
        .await
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request as text; `None` when the client is done.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(text.clone()).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    text.extend(body);
    Some(String::from_utf8(text).unwrap())
}

/// Signs by Standard Webhooks with this key.
fn standard(key: SigningKey) -> SignPolicy {
    SignPolicy {
        scheme: SignScheme::Preset(Preset::Standard),
        secrets: vec![SigningSecret { key, until: None }],
    }
}

async fn deliver(endpoint: &Endpoint) -> Tried {
    let courier = Couriers::new().prepare(endpoint).unwrap();
    courier
        .deliver(&[event("evt-1", r#"{"type":"test.event"}"#)], "evt-1", 1, NOW)
        .await
}

/// Delivers to `peer`, with [`SHORT`] for a deadline if that is what is to pass, and expects an error of `class`.
async fn expect_error(peer: &Peer, class: ErrorClass, cause: &str) -> Tried {
    let mut endpoint = endpoint(&peer.url());
    if class == ErrorClass::Timeout {
        endpoint.request.timeout = SHORT;
    }
    let tried = deliver(&endpoint).await;
    let attempt = &tried.attempt;
    assert_eq!(attempt.outcome, Outcome::Error(class), "{attempt:?}");
    assert!(attempt.message.contains(cause), "{}", attempt.message);
    assert!(
        attempt.message.contains(&peer.address.to_string()),
        "{}",
        attempt.message
    );
    tried
}

/// E1, D4: what is delivered, on the wire, verified by the official library as a receiver would do it.
#[tokio::test]
async fn e1_delivered_and_verified_by_the_receiver() {
    let peer = Peer::answering(OK, Then::KeepAlive).await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut endpoint = endpoint(&peer.url());
    endpoint.sign = vec![standard(sign::parse_secret(secret).unwrap())];
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now = Timestamp(0).plus(unix);
    let courier = Couriers::new().prepare(&endpoint).unwrap();
    let tried = courier
        .deliver(&[event("evt.1", r#"{"n":1}"#)], "evt.1", 2, now)
        .await;

    assert_eq!(
        (tried.attempt.outcome, tried.attempt.status),
        (Outcome::Delivered, Some(200))
    );
    assert_eq!((tried.attempt.number, tried.attempt.started), (2, now));
    assert_eq!(tried.attempt.request_headers, []);
    let requests = peer.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    assert_eq!((line, body), ("POST /hook HTTP/1.1", r#"{"n":1}"#));
    let headers: HeaderMap = headers
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(header)
        .collect();
    assert_eq!(headers["webhook-id"], "evt%2E1");
    assert_eq!(headers["x-posthaste-attempt"], "2");
    assert_eq!(headers["content-type"], "application/json");
    standardwebhooks::Webhook::new(secret)
        .unwrap()
        .verify(body.as_bytes(), &headers)
        .unwrap();
}

fn header((name, value): (&str, &str)) -> (HeaderName, HeaderValue) {
    (name.parse().unwrap(), value.parse().unwrap())
}

/// E1, E4: each hundred of statuses, with the evidence; a redirect is not followed.
#[tokio::test]
async fn e4_statuses_with_evidence() {
    for (status, class) in [
        ("302 Found\r\nlocation: /elsewhere", ErrorClass::Http3xx),
        ("404 Not Found", ErrorClass::Http4xx),
        ("500 Internal Server Error", ErrorClass::Http5xx),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nx-why: because\r\ncontent-length: 4\r\n\r\nwhy?");
        let peer = Peer::answering(answer, Then::KeepAlive).await;
        let attempt = expect_error(&peer, class, &status[..3]).await.attempt;
        assert_eq!(attempt.status, status[..3].parse().ok());
        assert_eq!(attempt.response_excerpt, "why?");
        assert!(
            attempt
                .response_headers
                .contains(&("x-why".to_owned(), "because".to_owned()))
        );
        assert!(
            attempt
                .request_headers
                .contains(&("webhook-id".to_owned(), "evt-1".to_owned()))
        );
        assert_eq!(attempt.request_line, "POST http://masked/");
        assert_eq!(peer.requests().len(), 1);
    }
}

/// F3, F4: what an endpoint says about itself arrives as signals.
#[tokio::test]
async fn f3_f4_signals_arrive() {
    let date = "Tue, 14 Nov 2023 22:15:20 GMT"; // two minutes after NOW
    for (status, value, seconds) in [
        ("429 Too Many Requests", "2", 2..=2),
        ("503 Busy", date, 110..=120),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
        let signal = deliver(&endpoint(&Peer::answering(answer, Then::KeepAlive).await.url()))
            .await
            .signal;
        assert!(
            seconds.contains(&signal.retry_after.unwrap().as_secs()),
            "{signal:?}"
        );
        assert!(signal.overloaded);
    }
    let answer = "HTTP/1.1 410 Gone\r\nwebhook-delivery: abort-message\r\ncontent-length: 0\r\n\r\n";
    let signal = deliver(&endpoint(&Peer::answering(answer, Then::KeepAlive).await.url()))
        .await
        .signal;
    assert!(signal.gone && signal.abort && !signal.overloaded);
}

/// C6: no secret of the configuration is in the evidence, though all of them were sent.
#[tokio::test]
async fn c6_evidence_shows_no_secrets() {
    let peer = Peer::answering("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", Then::KeepAlive).await;
    let mut endpoint = endpoint(&format!("{}?token=hunter2", peer.url()));
    endpoint.request.headers = vec![(
        http::header::AUTHORIZATION,
        fixture::fixed("Bearer hunter2", Target::Header),
    )];
    let key = sign::parse_secret(&format!(
        "whsec_{}",
        base64::prelude::BASE64_STANDARD.encode([7; 32])
    ))
    .unwrap();
    endpoint.sign = vec![standard(key)];
    let tried = deliver(&endpoint).await;
    assert!(peer.requests()[0].contains("authorization: Bearer hunter2"));
    assert!(!format!("{tried:?}").contains("hunter2"));
    for name in ["authorization", "webhook-signature"] {
        assert!(
            tried
                .attempt
                .request_headers
                .contains(&(name.to_owned(), "[secret]".to_owned())),
            "{name}"
        );
    }
}

/// C6: nor are those that stood in a body, when the answer repeats them; nobody who tries it out sees them either.
#[tokio::test]
async fn c6_what_stood_in_a_body_is_masked_in_what_comes_back() {
    let body = r#"{"error":"no such key: top\"secret-1, nor tok-en-2"}"#;
    let head = "HTTP/1.1 400 No\r\ncontent-type: application/json\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let peer = Peer::answering(answer, Then::KeepAlive).await;
    let mut endpoint = endpoint(&peer.url());
    let secret = ("k".into(), "top\"secret-1".into());
    endpoint.settings = Settings::new(json!({}), Secrets::new([secret])).into();
    let parts = [
        Part::Written("{\"key\": {{ secrets.k }}, \"token\": \""),
        Part::Reference("tok-en-2"),
        Part::Written("\"}"),
    ];
    endpoint.request.body.format = BodyFormat::Document {
        kind: DocumentKind::Json,
        template: Template::compile_parts(&parts, Target::Json).unwrap(),
    };
    endpoint.response.error.message = Some(Expression::compile("response.error").unwrap());
    let tried = deliver(&endpoint).await;
    assert!(peer.requests()[0].contains(r#"{"key": "top\"secret-1", "token": "tok-en-2"}"#));
    let trial = Couriers::new().prepare(&endpoint).unwrap();
    let trial = trial.try_out(&event("e", "{}"), Timestamp(0), &[]).await;
    for message in [&tried.attempt.message, &trial.message] {
        assert!(
            message.contains("no such key: [secret], nor [secret]"),
            "{message}"
        );
    }
    let answer = trial.answer.unwrap();
    for shown in [format!("{tried:?}"), answer.body] {
        assert!(
            !shown.contains("secret-1") && !shown.contains("tok-en"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn e4_refused() {
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let attempt = deliver(&endpoint(&format!("http://{address}/"))).await.attempt;
    assert_eq!(attempt.outcome, Outcome::Error(ErrorClass::Connect));
    assert_eq!(
        attempt.message,
        format!("could not connect to {address}: Connection refused (os error 111)")
    );
}

/// A listener whose queue is full: the kernel answers no further connection.
#[tokio::test]
async fn e4_no_connection_within_its_bound() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }
    let mut endpoint = endpoint(&format!("http://{address}/"));
    endpoint.request.connect_timeout = SHORT;
    let attempt = deliver(&endpoint).await.attempt;
    assert_eq!(
        attempt.outcome,
        Outcome::Error(ErrorClass::Connect),
        "{attempt:?}"
    );
    assert!(
        attempt.message.ends_with("no connection within connect_timeout"),
        "{}",
        attempt.message
    );
}

/// RFC 6761 §6.4: names under `.invalid` never resolve.
#[tokio::test]
async fn e4_unknown_host() {
    let attempt = deliver(&endpoint("http://posthaste.invalid/")).await.attempt;
    assert_eq!(attempt.outcome, Outcome::Error(ErrorClass::Dns), "{attempt:?}");
    assert!(
        attempt.message.contains("posthaste.invalid"),
        "{}",
        attempt.message
    );
}

/// E6: an endpoint that says nothing is left at the deadline.
#[tokio::test]
async fn e6_hanging() {
    let peer = Peer::answering("", Then::KeepAlive).await;
    let tried = expect_error(&peer, ErrorClass::Timeout, "no answer within 150ms").await;
    assert!(tried.signal.overloaded);
    assert!(
        (150..10_000).contains(&tried.attempt.duration_ms),
        "{}",
        tried.attempt.duration_ms
    );
}

/// A host that says `begins` and then one byte after the other for ever.
async fn dripping(begins: &'static [u8]) -> Peer {
    Peer::scripted(move |mut stream, _| async move {
        read_request(&mut stream).await;
        stream.write_all(begins).await.unwrap();
        while stream.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// E6: bytes that keep coming do not keep an attempt alive, neither in the head nor in the body.
#[tokio::test]
async fn e6_dripping() {
    for (begins, status, cause) in [
        (&b"HTTP/1.1 200 OK\r\nx-"[..], None, "no answer within"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n",
            Some(200),
            "body did not end within",
        ),
    ] {
        let peer = dripping(begins).await;
        let attempt = expect_error(&peer, ErrorClass::Timeout, cause).await.attempt;
        assert_eq!(attempt.status, status);
        assert_eq!(attempt.response_excerpt.is_empty(), status.is_none());
    }
}

/// E6: nor do bytes of a packed body that never come to anything, here those of the file's name in its head (RFC 1952).
#[tokio::test]
async fn e6_dripping_packed() {
    let peer =
        dripping(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\x03").await;
    let says = "body did not end within";
    let attempt = expect_error(&peer, ErrorClass::Timeout, says).await.attempt;
    assert_eq!(attempt.status, Some(200));
}

/// E6: of an answer of 10 GB only the beginning is read, and the connection is given up.
#[tokio::test]
async fn e6_huge_answers_are_cut() {
    let (written, total) = tokio::sync::oneshot::channel();
    let written = Arc::new(Mutex::new(Some(written)));
    let peer = Peer::scripted(move |mut stream, _| {
        let written = written.clone();
        async move {
            read_request(&mut stream).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
                .await;
            let mut bytes = 0;
            while let Ok(more) = stream.write(&[b'x'; 65536]).await {
                bytes += more as u64;
            }
            let _ = written.lock().unwrap().take().unwrap().send(bytes);
        }
    })
    .await;
    let attempt = deliver(&endpoint(&peer.url())).await.attempt;
    assert_eq!(attempt.outcome, Outcome::Delivered, "{attempt:?}");
    assert!(total.await.unwrap() < 100_000_000);
}

/// E4: a connection carries one request after the other; one that the other side has closed meanwhile, without a word, is
/// replaced and costs no attempt.
#[tokio::test]
async fn e4_connections_are_used_again_while_they_last() {
    let closed = Arc::new(tokio::sync::Semaphore::new(0));
    let (lasting, told) = (Peer::answering(OK, Then::KeepAlive).await, closed.clone());
    let closing = Peer::scripted(move |mut stream, _| {
        let told = told.clone();
        async move {
            read_request(&mut stream).await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
            drop(stream);
            told.add_permits(1);
        }
    })
    .await;
    let couriers = Couriers::new();
    let to = |peer: &Peer| couriers.prepare(&endpoint(&peer.url())).unwrap();
    let (lasting_courier, closing_courier) = (to(&lasting), to(&closing));
    let events = [event("e", "{}")];
    for number in 1..=3 {
        let tried = closing_courier.deliver(&events, "e", number, NOW).await;
        assert_eq!(tried.attempt.outcome, Outcome::Delivered, "{:?}", tried.attempt);
        assert!(!tried.exchange.reused);
        closed.acquire().await.unwrap().forget();
        // Meanwhile the runtime looks at its sockets.
        let tried = lasting_courier.deliver(&events, "e", number, NOW).await;
        assert_eq!(tried.attempt.outcome, Outcome::Delivered);
        assert_eq!(tried.exchange.reused, number > 1);
    }
    assert_eq!((closing.connections(), lasting.connections()), (3, 1));
}

/// E6: a body that decompresses to 64 MiB is read up to the bound, and not taken for an error.
#[tokio::test]
async fn e6_compressed_bombs_are_cut() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..64 {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        bomb.len()
    );
    let peer = Peer::answering([head.as_bytes(), &bomb].concat(), Then::KeepAlive).await;
    let endpoint = endpoint(&peer.url());
    let request = Couriers::new()
        .prepare(&endpoint)
        .unwrap()
        .request(&load(&event("e", "{}"), 1, NOW))
        .unwrap();
    let sender = Clients::default().sender(&endpoint.request, true).unwrap();
    let bounds = Bounds {
        timeout: Duration::from_secs(30),
        response_bytes_max: 10_000,
    };
    let sent = sender.send(&request, bounds, tokio::time::Instant::now()).await;
    let answer = sent.result.unwrap();
    assert_eq!((answer.body.len(), answer.broken), (10_000, None));
}

/// E4, E6: every way an answer can be no answer.
#[tokio::test]
async fn e4_broken_answers() {
    let (reset, invalid) = (ErrorClass::Reset, ErrorClass::InvalidResponse);
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(300_000));
    for (answer, then, class, status) in [
        ("", Then::Close, reset, None),
        ("", Then::Reset, reset, None),
        ("HTTP/1.1 200 OK\r\nconte", Then::Close, reset, None),
        ("HTTP/1.1 200 OK\r\nconte", Then::Reset, reset, None),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
            Then::Close,
            invalid,
            Some(200),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\nshort",
            Then::Close,
            invalid,
            None,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot hex\r\n",
            Then::Close,
            invalid,
            Some(200),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
            Then::Close,
            invalid,
            Some(200),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd",
            Then::Close,
            invalid,
            Some(200),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-encoding: zstd\r\ncontent-length: 9\r\n\r\nnot zstd!",
            Then::KeepAlive,
            invalid,
            Some(200),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 9\r\n\r\n\u{1}\u{2}brotli?",
            Then::KeepAlive,
            invalid,
            Some(200),
        ),
        ("SSH-2.0-OpenSSH_9.2p1\r\n", Then::Close, invalid, None),
        ("HTTP/1.1 2x0 OK\r\n\r\n", Then::Close, invalid, None),
        (&*endless, Then::KeepAlive, invalid, None),
    ] {
        let peer = Peer::answering(answer, then).await;
        let attempt = expect_error(&peer, class, "").await.attempt;
        assert_eq!(attempt.status, status, "{answer:?}");
        assert_eq!(peer.connections(), 1, "sent once: {answer:?}");
    }
}

/// E4: a URL that is longer than any can be is the request's fault, and nothing is connected to.
#[tokio::test]
async fn e4_a_url_that_is_too_long() {
    let peer = Peer::answering(OK, Then::KeepAlive).await;
    let mut endpoint = endpoint(&peer.url());
    let long = Template::compile(&"x".repeat(15_000), Target::Text).unwrap();
    endpoint.request.query = (0..5).map(|n| (format!("q{n}").into(), long.clone())).collect();
    let attempt = deliver(&endpoint).await.attempt;
    assert_eq!(attempt.outcome, Outcome::Error(ErrorClass::Render), "{attempt:?}");
    assert!(attempt.message.contains("can't be sent"), "{}", attempt.message);
    assert_eq!(peer.connections(), 0);
}

/// E4: what comes before, after or instead of an answer does not spoil the next one on the same courier.
#[tokio::test]
async fn e4_odd_answers_spoil_no_connection() {
    let events = [event("e", "{}")];
    for (answer, connections) in [
        (
            "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            1,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", 1),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
            1,
        ),
        // None of these may be used again.
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 2),
        (
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            2,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more", 2),
    ] {
        let peer = Peer::answering(answer, Then::KeepAlive).await;
        let courier = Couriers::new().prepare(&endpoint(&peer.url())).unwrap();
        for number in 1..=2 {
            let attempt = courier.deliver(&events, "e", number, NOW).await.attempt;
            assert_eq!(attempt.outcome, Outcome::Delivered, "{answer:?}: {attempt:?}");
        }
        assert_eq!(peer.connections(), connections, "{answer:?}");
    }
}

/// E4: a host that has said all it will say needs no rest of the request, and one that answers while it reads gets it.
#[tokio::test]
async fn e4_a_host_may_answer_before_it_has_read() {
    async fn read_head(stream: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap_or(b'\n'));
        }
    }
    // More than any socket takes in.
    let events = [event("e", &format!("\"{}\"", "x".repeat(32 << 20)))];
    let refusing = Peer::scripted(|mut stream, _| async move {
        read_head(&mut stream).await;
        let refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(refusal).await.unwrap();
        std::future::pending().await
    });
    let early = Peer::scripted(|mut stream, _| async move {
        for _ in 0..2 {
            read_head(&mut stream).await;
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let mut body = vec![0; (32 << 20) + 2];
            stream.read_exact(&mut body).await.unwrap();
            stream.write_all(b"ok").await.unwrap();
        }
    });
    for (peer, status, connections) in [(refusing.await, 413, 2), (early.await, 200, 1)] {
        let courier = Couriers::new().prepare(&endpoint(&peer.url())).unwrap();
        for number in 1..=2 {
            let attempt = courier.deliver(&events, "e", number, NOW).await.attempt;
            assert_eq!(attempt.status, Some(status), "{attempt:?}");
        }
        assert_eq!(peer.connections(), connections, "{status}");
    }
}

/// E6: an answer that is cut leaves nothing behind for the next request.
#[tokio::test]
async fn e6_the_rest_of_a_cut_answer_is_nobodys() {
    let long = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n{}",
        "x".repeat(200_000)
    );
    let peer = Peer::answering(long, Then::KeepAlive).await;
    let mut endpoint = endpoint(&peer.url());
    endpoint.request.response_bytes_max = 1000;
    let courier = Couriers::new().prepare(&endpoint).unwrap();
    for number in 1..=2 {
        let tried = courier.deliver(&[event("e", "{}")], "e", number, NOW).await;
        assert_eq!(tried.attempt.outcome, Outcome::Delivered, "{:?}", tried.attempt);
        assert_eq!(tried.exchange.received_bytes, 1000);
    }
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn connections_are_kept_and_shared_between_endpoints() {
    let peer = Peer::answering(OK, Then::KeepAlive).await;
    let couriers = Couriers::new();
    let one = couriers.prepare(&endpoint(&peer.url())).unwrap();
    let other = couriers
        .prepare(&endpoint(&format!("http://{}/other", peer.address)))
        .unwrap();
    for courier in [&one, &other, &one, &other] {
        let tried = courier.deliver(&[event("e", "{}")], "e", 1, NOW).await;
        assert_eq!(tried.attempt.outcome, Outcome::Delivered);
    }
    assert_eq!((peer.connections(), peer.requests().len()), (1, 4));
}

/// The evidence of the largest answer a policy lets in stays within its own bound.
#[tokio::test]
async fn e6_evidence_is_bounded() {
    let answer = format!(
        "HTTP/1.1 500 No\r\ncontent-length: 60000\r\n\r\n{}",
        "x".repeat(60_000)
    );
    let attempt = deliver(&endpoint(&Peer::answering(answer, Then::KeepAlive).await.url()))
        .await
        .attempt;
    assert_eq!(attempt.response_excerpt.len(), EXCERPT_BYTES_MAX);
}

/// A TLS server for `localhost` with a certificate nobody knows; gives the URL and the certificate as PEM.
async fn tls_peer() -> (String, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let peer = Peer::scripted(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                answer_once(&mut stream).await;
            }
        }
    });
    (
        format!("https://localhost:{}/", peer.await.address.port()),
        own.cert.pem(),
    )
}

async fn answer_once(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    read_request(stream).await;
    let _ = stream.write_all(OK.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// D6: verified by default; an own authority is trusted beside the system's; verification can be turned off.
#[tokio::test]
async fn d6_tls() {
    let (url, pem) = tls_peer().await;
    let by_address = url.replace("localhost", "127.0.0.1");
    let tls_error = Outcome::Error(ErrorClass::Tls);
    for (url, ca, verify, expected, cause) in [
        (&url, "", true, tls_error, "UnknownIssuer"),
        (&url, &*pem, true, Outcome::Delivered, ""),
        (&by_address, &*pem, true, tls_error, "not valid for"),
        (&by_address, "", false, Outcome::Delivered, ""),
    ] {
        let mut endpoint = endpoint(url);
        endpoint.request.tls.ca_pem = ca.into();
        endpoint.request.tls.verify = verify;
        let attempt = deliver(&endpoint).await.attempt;
        assert_eq!(attempt.outcome, expected, "{url} {verify} {attempt:?}");
        assert!(attempt.message.contains(cause), "{}", attempt.message);
    }
}

/// D6: a server that does not speak TLS, or hangs up on it.
#[tokio::test]
async fn d6_no_tls_at_the_other_side() {
    let plain = Peer::scripted(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1]).await;
    });
    let closing = Peer::scripted(|mut stream, _| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    });
    for address in [plain.await.address, closing.await.address] {
        let attempt = deliver(&endpoint(&format!("https://{address}/"))).await.attempt;
        assert_eq!(attempt.outcome, Outcome::Error(ErrorClass::Tls), "{attempt:?}");
    }
}

#[test]
fn d6_a_bad_authority_is_named_when_the_courier_is_prepared() {
    for pem in [
        "not a certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let mut endpoint = endpoint("https://127.0.0.1/");
        endpoint.request.tls.ca_pem = pem.into();
        let error = Couriers::new().prepare(&endpoint).unwrap_err();
        assert!(error.contains("tls.ca"), "{pem}: {error}");
    }
}
