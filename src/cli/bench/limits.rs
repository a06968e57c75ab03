//! What the machine gives at most: a bare HTTP client to the same receiver, and append plus fdatasync of the same
//! bytes in the same batches on the same file system.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::producers::{LINE_BYTES, line, microseconds};

fn body() -> Bytes {
    line("limit", "").into()
}

/// Sums up what the loops of a limit did.
async fn per_second(mut loops: JoinSet<io::Result<u64>>, started: Instant) -> io::Result<f64> {
    let mut requests = 0;
    while let Some(done) = loops.join_next().await {
        requests += done.map_err(io::Error::other)??;
    }
    Ok(requests as f64 / started.elapsed().as_secs_f64())
}

/// Requests a second of plain reqwest loops, `connections` of them.
///
/// # Errors
/// When a request fails.
pub async fn reqwest(receiver: SocketAddr, connections: u16, span: Duration) -> io::Result<f64> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(io::Error::other)?;
    let url = reqwest::Url::parse(&format!("http://{receiver}/")).map_err(io::Error::other)?;
    let started = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..connections {
        let (client, url, body) = (client.clone(), url.clone(), body());
        loops.spawn(async move {
            let mut requests = 0;
            while started.elapsed() < span {
                let request = client.post(url.clone()).body(body.clone());
                let answer = request.send().await.map_err(io::Error::other)?;
                answer.bytes().await.map_err(io::Error::other)?;
                requests += 1;
            }
            Ok(requests)
        });
    }
    per_second(loops, started).await
}

/// One of hyper's bare connections.
#[derive(Debug)]
pub struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(receiver: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(receiver).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // It ends with the sender.
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Posts `body`, and reads the answer to its end.
    ///
    /// # Errors
    /// When the request fails; whatever the answer says is no failure.
    pub async fn post(&mut self, body: Bytes) -> io::Result<()> {
        let request = Request::post("/")
            .header("host", "bench")
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        self.0.ready().await.map_err(io::Error::other)?;
        let answer = self.0.send_request(request).await.map_err(io::Error::other)?;
        answer.into_body().collect().await.map_err(io::Error::other)?;
        Ok(())
    }
}

/// Requests a second of so many of hyper's bare `connections`.
///
/// # Errors
/// When a request fails.
pub async fn raw(receiver: SocketAddr, connections: u16, span: Duration) -> io::Result<f64> {
    let started = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..connections {
        loops.spawn(async move {
            let mut connection = Connection::open(receiver).await?;
            let body = body();
            let mut requests = 0;
            while started.elapsed() < span {
                connection.post(body.clone()).await?;
                requests += 1;
            }
            Ok(requests)
        });
    }
    per_second(loops, started).await
}

/// What appending and flushing gave.
#[derive(Debug)]
pub struct Flushes {
    /// Events a second.
    pub per_second: f64,
    /// Microseconds of one batch.
    pub waits_us: Histogram<u64>,
}

/// Appends batches of `events` lines to a new file in `folder`, each flushed by fdatasync. Blocks.
///
/// # Errors
/// Those of the file.
pub fn flush(folder: &Path, events: usize, span: Duration) -> io::Result<Flushes> {
    let path = folder.join("flush-limit");
    let mut file = File::create(&path)?;
    let batch = vec![b'x'; LINE_BYTES * events.max(1)];
    let mut waits_us = microseconds()?;
    let started = Instant::now();
    let mut written = 0;
    while started.elapsed() < span {
        let began = Instant::now();
        file.write_all(&batch)?;
        file.sync_data()?;
        waits_us.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        written += events.max(1);
    }
    let per_second = written as f64 / started.elapsed().as_secs_f64();
    fs::remove_file(&path)?;
    Ok(Flushes { per_second, waits_us })
}
