//! An HTTP client that sees everything: over a Unix socket or TCP, any method, any header, the whole answer or its
//! beginning.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{BOUND, RUNTIME};

/// Where a server is.
#[derive(Clone, Copy, Debug)]
pub enum At<'a> {
    Socket(&'a Path),
    Tcp(SocketAddr),
}

/// An answer whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// The body as JSON; as a text if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| Value::from(&*self.body))
    }

    /// The value of a header, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// Asks and reads the whole answer.
pub fn ask(at: At<'_>, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let request = request(method, path, headers, body.into());
    let exchange = async {
        let (status, headers, body) = start(at, request).await;
        let body = body.collect().await.expect("a body").to_bytes();
        Answer {
            status,
            headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    };
    RUNTIME
        .block_on(async { tokio::time::timeout(BOUND, exchange).await })
        .unwrap_or_else(|_| panic!("{method} {path}: no answer"))
}

/// Asks, and gives the status and the body to read from as it comes.
pub fn open(at: At<'_>, path: &str) -> (u16, Incoming) {
    let request = request("GET", path, &[], Bytes::new());
    let (status, _, body) = RUNTIME.block_on(start(at, request));
    (status, body)
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Bytes) -> http::Request<Full<Bytes>> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "posthaste");
    headers
        .iter()
        .fold(request, |request, (name, value)| request.header(*name, *value))
        .body(Full::new(body))
        .expect("a request")
}

async fn start(at: At<'_>, request: http::Request<Full<Bytes>>) -> (u16, HeaderMap, Incoming) {
    match at {
        At::Socket(path) => converse(UnixStream::connect(path).await.expect("the socket"), request).await,
        At::Tcp(address) => converse(TcpStream::connect(address).await.expect("the port"), request).await,
    }
}

async fn converse<S>(stream: S, request: http::Request<Full<Bytes>>) -> (u16, HeaderMap, Incoming)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("HTTP");
    // Ends with the answer, or with the connection.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.expect("an answer");
    let (parts, body) = answer.into_parts();
    (parts.status.as_u16(), parts.headers, body)
}
