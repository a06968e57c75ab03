//! The other side: receivers of deliveries that behave, misbehave, or say exactly what a test wrote down.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use posthaste::cli::receive::behaviour::Behaviour;
use posthaste::cli::receive::server::{Options, Received, Receiver};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;

use super::{BOUND, RUNTIME};

/// Requests that wait to be looked at; more than any test makes.
const KEPT: usize = 100_000;

fn local() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A receiver that answers as the path says, 200 else.
pub struct Target(Receiver);

impl Target {
    /// Listens on a free port.
    pub fn new() -> Self {
        let options = Options {
            otherwise: Behaviour::Status(200),
            keep: KEPT,
        };
        Self(
            RUNTIME
                .block_on(Receiver::bind(local(), options))
                .expect("a free port"),
        )
    }

    /// A URL that leads here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.addr())
    }

    /// The next request.
    pub fn next(&mut self) -> Received {
        let next = RUNTIME.block_on(async { tokio::time::timeout(BOUND, self.0.recv()).await });
        next.expect("a request in time").expect("the receiver runs")
    }

    /// The next `count` requests.
    pub fn take(&mut self, count: usize) -> Vec<Received> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.0.counts().requests
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.0.counts().connections
    }
}

/// The value of a header, empty if it is not there.
pub fn header<'a>(received: &'a Received, name: &str) -> &'a str {
    received
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// An HTTP server that answers each request with the bytes a test makes up, and closes.
pub struct Scripted {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// Answers request number n (from 0) with `answer(n)`.
    pub fn new(answer: impl Fn(usize) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(local()).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&heads), Arc::new(answer));
        // Ends with the process: nothing tells it that the test is over.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || {
                    converse(stream, |head, _| {
                        let mut seen = seen.lock().expect("no test panics with it");
                        seen.push(head.to_owned());
                        let number = seen.len() - 1;
                        drop(seen);
                        answer(number)
                    });
                });
            }
        });
        Self { addr, heads }
    }

    /// A URL that leads here.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.heads.lock().expect("no test panics with it").len()
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no test panics with it").clone()
    }
}

/// A server that answers each request by its body.
pub struct Judge {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Judged>>>,
}

/// A request to a [`Judge`].
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its `webhook-id`.
    pub id: String,
    /// Its body.
    pub body: String,
    /// The status it was answered with.
    pub status: u16,
}

impl Judge {
    /// Answers with the status that `judge` gives a body.
    pub fn new(judge: impl Fn(&str) -> u16 + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(local()).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, judge) = (Arc::clone(&seen), Arc::new(judge));
        // Ends with the process: nothing tells it that the test is over.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (noted, judge) = (Arc::clone(&noted), Arc::clone(&judge));
                thread::spawn(move || {
                    converse(stream, |head, body| {
                        let status = judge(body);
                        let value = |name: &str| {
                            let mut lines = head.lines();
                            lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
                        };
                        noted.lock().expect("no test panics with it").push(Judged {
                            id: value("webhook-id:").unwrap_or_default(),
                            body: body.to_owned(),
                            status,
                        });
                        answer(status, "")
                    });
                });
            }
        });
        Self { addr, seen }
    }

    /// A URL that leads here.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// The requests so far, in the order of their answers.
    pub fn seen(&self) -> Vec<Judged> {
        self.seen.lock().expect("no test panics with it").clone()
    }

    /// Waits for so many requests; all of them.
    pub fn until(&self, count: usize) -> Vec<Judged> {
        super::eventually(&format!("{count} requests"), || {
            Some(self.seen()).filter(|seen| seen.len() >= count)
        })
    }
}

/// A service that answers each request by what is asked, and remembers all of them.
pub struct Service {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A request to a [`Service`].
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its path, with the query.
    pub path: String,
    /// Everything before its body, in lower case.
    pub head: String,
    /// Its body.
    pub body: String,
}

impl Asked {
    /// The value of a header, in lower case; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        let mut lines = self.head.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_default()
    }
}

impl Service {
    /// Answers with the status and the JSON that `answer` gives.
    pub fn new(answer: impl Fn(&Asked) -> (u16, serde_json::Value) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(local()).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
        // Ends with the process: nothing tells it that the test is over.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                thread::spawn(move || {
                    converse(stream, |head, body| {
                        let one = Asked {
                            path: head.split(' ').nth(1).unwrap_or_default().to_owned(),
                            head: head.to_owned(),
                            body: body.to_owned(),
                        };
                        noted.lock().expect("no test panics with it").push(one.clone());
                        let (status, json) = answer(&one);
                        let json = json.to_string();
                        format!(
                            "HTTP/1.1 {status} As Asked\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                             connection: close\r\n\r\n{json}",
                            json.len()
                        )
                    });
                });
            }
        });
        Self { addr, asked }
    }

    /// A URL that leads here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The requests so far whose path begins so.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().expect("no test panics with it");
        asked
            .iter()
            .filter(|asked| asked.path.starts_with(path))
            .cloned()
            .collect()
    }

    /// Waits for so many of them; all of them.
    pub fn until(&self, path: &str, count: usize) -> Vec<Asked> {
        super::eventually(&format!("{count} requests to {path}"), || {
            Some(self.asked(path)).filter(|asked| asked.len() >= count)
        })
    }
}

/// Reads one request, answers, closes. Whoever breaks the connection gets no answer.
fn converse(stream: TcpStream, answer: impl FnOnce(&str, &str) -> String) {
    let mut reader = BufReader::new(&stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if !matches!(reader.read_line(&mut head), Ok(1..)) {
            return;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let answer = answer(&head, &String::from_utf8_lossy(&body));
    let _ = (&stream).write_all(answer.as_bytes());
}

/// An answer with this status, these header lines and no body.
pub fn answer(status: u16, headers: &str) -> String {
    format!("HTTP/1.1 {status} As Asked\r\ncontent-length: 0\r\nconnection: close\r\n{headers}\r\n")
}

/// An address that nobody listens on.
pub fn nobody() -> SocketAddr {
    let listener = TcpListener::bind(local()).expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// A server that takes connections and requests, and answers each only when it is let go.
pub struct Gate {
    addr: SocketAddr,
    open: Arc<(Mutex<bool>, Condvar)>,
    waiting: Arc<AtomicUsize>,
}

impl Gate {
    /// A closed one.
    pub fn new() -> Self {
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let waiting = Arc::new(AtomicUsize::new(0));
        let (held, counted) = (Arc::clone(&open), Arc::clone(&waiting));
        let server = Scripted::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            let opened = held.0.lock().expect("no test panics with it");
            let _opened = held
                .1
                .wait_timeout_while(opened, BOUND * 4, |opened| !*opened)
                .expect("no test panics with it");
            answer(200, "")
        });
        Self {
            addr: server.addr,
            open,
            waiting,
        }
    }

    /// A URL that leads here.
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Lets all requests go, those that wait and those to come.
    pub fn open(&self) {
        *self.open.0.lock().expect("no test panics with it") = true;
        self.open.1.notify_all();
    }
}

/// An HTTPS server for `localhost`, with a certificate of an authority that nobody else knows. Answers 200.
pub struct Tls {
    addr: SocketAddr,
    authority: String,
    requests: Arc<AtomicUsize>,
}

impl Tls {
    /// Listens on a free port.
    pub fn new() -> Self {
        let authority = authority();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &authority).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a good pair");
        let listener = RUNTIME
            .block_on(tokio::net::TcpListener::bind(local()))
            .expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let requests = Arc::new(AtomicUsize::new(0));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        RUNTIME.spawn(serve_tls(listener, acceptor, Arc::clone(&requests)));
        Self {
            addr,
            authority: authority.pem(),
            requests,
        }
    }

    /// A URL that leads here, under this name.
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/", self.addr.port())
    }

    /// The authority's certificate as PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority")
}

/// Serves connections one after the other; one whose handshake fails is left.
async fn serve_tls(listener: tokio::net::TcpListener, acceptor: TlsAcceptor, requests: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(stream) = acceptor.accept(stream).await else {
            continue;
        };
        let requests = Arc::clone(&requests);
        let service = service_fn(move |_| {
            requests.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())))
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // Connections are kept open, so each is served beside the next.
        tokio::spawn(connection);
    }
}
