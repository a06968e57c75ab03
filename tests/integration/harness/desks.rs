//! Servers at the side of a delivery: token endpoints and APIs that look at whole requests, servers that ask for a
//! client certificate, and proxies. Each ends with the process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use super::RUNTIME;

/// A request as a desk sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `POST /path HTTP/1.1`
    pub line: String,
    /// Names in small letters.
    pub headers: HashMap<String, String>,
    /// The body as text.
    pub body: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl Asked {
    /// The value of a header, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Reads one off a connection; `None` when there is no more.
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let mut headers = HashMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers
            .get("content-length")
            .map_or(Some(0), |length| length.parse().ok())?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self {
            line: line.trim_end().to_owned(),
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            bytes: body,
        })
    }
}

fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    addr
}

/// An HTTP server that answers each request as a test decides, one for each connection.
pub struct Desk {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Desk {
    /// Answers each request with a status and a JSON body.
    pub fn new(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::saying(move |asked| {
            let (status, body) = answer(asked);
            (status, String::new(), body)
        })
    }

    /// Answers each request with a status, header lines and a body.
    pub fn saying(answer: impl Fn(&Asked) -> (u16, String, String) + Send + Sync + 'static) -> Self {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let addr = listen(move |stream| {
            let Some(request) = Asked::read(&mut BufReader::new(&stream)) else {
                return;
            };
            let (status, headers, body) = answer(&request);
            seen.lock().expect("no test panics with it").push(request);
            let head = format!(
                "HTTP/1.1 {status} As Asked\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
                body.len()
            );
            let _ = (&stream).write_all((head + &body).as_bytes());
        });
        Self { addr, asked }
    }

    /// A URL that leads here.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

/// Which protocol a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP: absolute URLs, and CONNECT (RFC 9110 §9.3.6).
    Http,
    /// SOCKS 5 (RFC 1928) with a user name and a password (RFC 1929).
    Socks5,
}

/// A proxy that connects to one place, whatever place it is asked for, and remembers what it was asked.
pub struct Proxy {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Leads to `target`. Wants the user `ada` with the password `pa:ss`.
    pub fn new(speaks: Speaks, target: SocketAddr) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let addr = listen(move |stream| {
            let note = |text: String| seen.lock().expect("no test panics with it").push(text);
            match speaks {
                Speaks::Http => http_proxy(&stream, target, note),
                Speaks::Socks5 => socks_proxy(&stream, target, note),
            };
            let _ = stream.shutdown(Shutdown::Both);
        });
        Self { addr, asked }
    }

    /// The proxy's URL.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://ada:pa%3Ass@{}", self.addr)
    }

    /// What it was asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics with it").clone()
    }
}

fn http_proxy(stream: &TcpStream, target: SocketAddr, note: impl Fn(String)) -> Option<()> {
    let asked = Asked::read(&mut BufReader::new(stream))?;
    let expected = format!("Basic {}", STANDARD.encode("ada:pa:ss"));
    if asked.header("proxy-authorization") != expected {
        note(format!("without credentials: {}", asked.line));
        let refusal =
            "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return (&mut &*stream).write_all(refusal.as_bytes()).ok();
    }
    note(asked.line.clone());
    let behind = TcpStream::connect(target).ok()?;
    if asked.line.starts_with("CONNECT ") {
        (&mut &*stream)
            .write_all(b"HTTP/1.1 200 Connected\r\n\r\n")
            .ok()?;
        return splice(stream, &behind);
    }
    // `POST http://host/path HTTP/1.1` becomes `POST /path HTTP/1.1`.
    let (method, rest) = asked.line.split_once(" http://")?;
    let path = &rest[rest.find('/')?..];
    let headers: String = asked
        .headers
        .iter()
        .filter(|(name, _)| *name != "proxy-authorization")
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let request = format!(
        "{method} {path}\r\n{headers}connection: close\r\n\r\n{}",
        asked.body
    );
    (&behind).write_all(request.as_bytes()).ok()?;
    splice(stream, &behind)
}

fn socks_proxy(stream: &TcpStream, target: SocketAddr, note: impl Fn(String)) -> Option<()> {
    let take = |count: usize| {
        let mut bytes = vec![0; count];
        (&mut &*stream).read_exact(&mut bytes).ok().map(|()| bytes)
    };
    let give = |bytes: &[u8]| (&mut &*stream).write_all(bytes).ok();
    let greeting = take(2)?;
    let methods = take(greeting[1].into())?;
    if !methods.contains(&2) {
        note("without credentials".to_owned());
        return give(&[5, 0xff]);
    }
    give(&[5, 2])?;
    let user_length = take(2)?[1];
    let user = take(user_length.into())?;
    let password_length = take(1)?[0];
    let password = take(password_length.into())?;
    if (&*user, &*password) != (b"ada", b"pa:ss") {
        note("with wrong credentials".to_owned());
        return give(&[1, 1]);
    }
    give(&[1, 0])?;
    let host = match take(4)?[3] {
        1 => {
            let bytes: [u8; 4] = take(4)?.try_into().ok()?;
            Ipv4Addr::from(bytes).to_string()
        }
        3 => {
            let length = take(1)?[0];
            String::from_utf8(take(length.into())?).ok()?
        }
        _ => "an IPv6 address".to_owned(),
    };
    take(2)?;
    note(host);
    let behind = TcpStream::connect(target).ok()?;
    give(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0])?;
    splice(stream, &behind)
}

/// Carries bytes both ways until both sides are done.
fn splice(one: &TcpStream, other: &TcpStream) -> Option<()> {
    let (mut from, mut to) = (one.try_clone().ok()?, other.try_clone().ok()?);
    let there = thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut &*other, &mut &*one);
    let _ = one.shutdown(Shutdown::Both);
    there.join().ok()
}

/// An HTTPS server for `localhost` that talks only to clients with a certificate of its authority. Answers 200.
pub struct MutualTls {
    addr: SocketAddr,
    /// The authority's certificate as PEM.
    pub authority: String,
    /// A client's certificate and key, as PEM.
    pub client: (String, String),
    /// The same of somebody whom the authority doesn't know.
    pub stranger: (String, String),
}

impl MutualTls {
    /// Listens on a free port.
    pub fn new() -> Self {
        let authority = authority();
        let (certificate, key) = issued(&authority, "localhost");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .expect("an authority");
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a good pair");
        let listener = RUNTIME
            .block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        RUNTIME.spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));
        let pem =
            |(certificate, key): (rcgen::Certificate, KeyPair)| (certificate.pem(), key.serialize_pem());
        Self {
            addr,
            authority: authority.pem(),
            client: pem(issued(&authority, "posthaste")),
            stranger: pem(issued(&self::authority(), "posthaste")),
        }
    }

    /// A URL that leads here.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/", self.addr.port())
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

fn issued(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    (params.signed_by(&key, authority).expect("a certificate"), key)
}

async fn serve(listener: tokio::net::TcpListener, acceptor: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service =
                service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) });
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
