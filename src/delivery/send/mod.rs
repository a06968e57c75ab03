//! The only room that opens HTTP connections. It puts one request on the wire, once, and brings back
//! what came: no retries, no proxy from the environment, nothing that would make the number of requests differ
//! from the number of attempts, unless the endpoint asks to follow redirects. What an answer means is not known here.
//!
//! Plain HTTP goes over [`lines`] of our own ([`mod@line`] is one of them, [`head`] and [`chunked`] are what goes over it), which
//! take a third of the processor time; TLS, HTTP/2 and proxies are the client library's.

mod chunked;
mod clients;
mod deadline;
mod handshake;
mod head;
#[cfg(test)]
mod judged;
mod line;
mod lines;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use reqwest::{Response, Url};
use tokio::time::Instant;
use url::{Host, Position};

pub use clients::Clients;
use clients::Roads;
use deadline::Deadline;

use super::failure::{Failure, Phase};
use super::fields::Fields;
use super::phases::Connecting;
use super::redirect;
use super::render::OutgoingRequest;
use crate::domain::endpoint::CannedAnswer;
use crate::domain::network::AddressPolicy;
use crate::domain::outcome::{ErrorClass, Exchange};

/// An idle connection is closed after this: before most servers do it (nginx 75 s, load balancers 60 s),
/// since a request that meets a closing connection is lost.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The kernel asks a peer that has been silent this long for a sign of life, so that connections to vanished hosts end.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long it waits before it asks again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How often it asks.
const KEEPALIVE_PROBES: u32 = 3;

/// The bounds of one exchange (E6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// On the whole of it, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// On the bytes of the answer's body, after decompression; the rest is not read.
    pub response_bytes_max: usize,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Headers. Shared, like the body, with what templates see of it.
    pub headers: Arc<Fields>,
    /// The body, decompressed, cut at [`Bounds::response_bytes_max`].
    pub body: Bytes,
    /// Whether there was more of it than that.
    pub is_cut: bool,
    /// Set when the body broke off before its end or that bound.
    pub broken: Option<Failure>,
}

impl Answer {
    /// One that was written down, for a trial.
    #[must_use]
    pub fn canned(written: &CannedAnswer) -> Self {
        let mut headers = Fields::default();
        if written.is_json {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Self {
            status: StatusCode::from_u16(written.status).unwrap_or_default(),
            headers: headers.into(),
            body: Bytes::copy_from_slice(written.body.as_bytes()),
            is_cut: false,
            broken: None,
        }
    }
}

/// Refuses a URL whose host is an address that may not be connected to. The client resolves names only, so an
/// address that stands in the URL is seen by nobody else; odd spellings (`0x7f.1`, `2130706433`) were made plain
/// when the URL was read.
fn check_literal(url: &Url, addresses: &AddressPolicy) -> Result<(), Failure> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        // Schemes other than http and https leave odd spellings alone.
        Some(Host::Domain(name)) => match name.parse() {
            Ok(address) => address,
            Err(_) => return Ok(()),
        },
        None => return Ok(()),
    };
    addresses.check(address).map_err(|blocked| Failure {
        class: ErrorClass::Blocked,
        cause: blocked.to_string(),
    })
}

/// One exchange: what came of it, and what it took.
#[derive(Debug)]
pub struct Sent {
    /// The answer, or what the exchange died of, if it died before there was a status.
    pub result: Result<Answer, Failure>,
    /// Its phases and bytes.
    pub exchange: Exchange,
    /// When it was over.
    pub ended: Instant,
}

impl Sent {
    /// The answer's status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.result.as_ref().ok().map(|answer| answer.status)
    }
}

/// `host` or `host:port`, as it stands in `url` and in the header `host` (RFC 9110 §7.2).
fn authority(url: &Url) -> &str {
    &url[Position::BeforeHost..Position::AfterPort]
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How far an exchange has come.
#[derive(Debug, Default)]
struct Course {
    connecting: Connecting,
    /// When the head of the last answer was here.
    head_at: Option<Instant>,
}

/// Sends requests over the connections of those with the same needs.
#[derive(Clone, Debug)]
pub struct Sender {
    roads: Arc<Roads>,
    addresses: AddressPolicy,
    redirects_max: u32,
}

impl Sender {
    /// Sends `request` once, follows as many redirects as the endpoint allows, and reads the answer, all within
    /// `bounds` of `started`. Measures how long each phase takes.
    pub async fn send(&self, request: &OutgoingRequest, bounds: Bounds, started: Instant) -> Sent {
        let began = Instant::now();
        let sent_bytes = request.body.len() as u64;
        let mut course = Course::default();
        let result = self.follow(request, bounds, started, &mut course).await;
        let ended = Instant::now();
        let total = ended - began;
        let head_in = course.head_at.map(|at| at.saturating_duration_since(began));
        let reused = head_in.is_some() && course.connecting.whole.is_none();
        // While a connection was made, another became free, and the request went over that one.
        let connecting = if reused {
            Connecting::default()
        } else {
            course.connecting
        };
        Sent {
            exchange: Exchange {
                total_us: micros(total),
                reused,
                dns_us: connecting.dns.map(micros),
                connect_us: connecting.connect.map(micros),
                tls_us: connecting.tls.map(micros),
                first_byte_us: head_in
                    .map(|head| micros(head.saturating_sub(connecting.whole.unwrap_or_default()))),
                body_us: head_in.map(|head| micros(total.saturating_sub(head))),
                sent_bytes,
                received_bytes: result.as_ref().map_or(0, |answer| answer.body.len() as u64),
            },
            result,
            ended,
        }
    }

    async fn follow(
        &self,
        request: &OutgoingRequest,
        bounds: Bounds,
        started: Instant,
        course: &mut Course,
    ) -> Result<Answer, Failure> {
        let mut answer = self.exchange(request, bounds, started, course).await?;
        let mut redirected: Option<Box<OutgoingRequest>> = None;
        for _ in 0..self.redirects_max {
            let request = redirected.as_deref().unwrap_or(request);
            let Some(next) = redirect::next(request, answer.status, &answer.headers) else {
                break;
            };
            let next = redirected.insert(Box::new(next));
            answer = self.exchange(next, bounds, started, course).await?;
        }
        Ok(answer)
    }

    async fn exchange(
        &self,
        request: &OutgoingRequest,
        bounds: Bounds,
        started: Instant,
        course: &mut Course,
    ) -> Result<Answer, Failure> {
        check_literal(&request.url, &self.addresses)?;
        let deadline = Deadline::new(started, bounds.timeout);
        let mut arriving = self.roads.ask(request, deadline, &mut course.connecting).await?;
        course.head_at = Some(Instant::now());
        let (status, headers) = arriving.take_head();
        let mut body = Vec::new();
        let read = read_body(arriving, &mut body, bounds.response_bytes_max).await;
        Ok(Answer {
            status,
            headers: Arc::new(headers),
            body: body.into(),
            is_cut: matches!(read, Ok(Read::Part)),
            broken: read.err(),
        })
    }
}

/// An answer of which the head is here. A connection of our own knows its deadline.
enum Arriving<'a> {
    Line(Box<lines::Arriving<'a>>),
    Client(Box<Response>, Deadline),
}

impl Arriving<'_> {
    fn take_head(&mut self) -> (StatusCode, Fields) {
        match self {
            Self::Line(arriving) => (arriving.status, std::mem::take(&mut arriving.headers)),
            Self::Client(response, _) => {
                let headers = std::mem::take(response.headers_mut());
                (response.status(), headers.into())
            }
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Line(arriving) => arriving.chunk().await,
            Self::Client(response, deadline) => {
                let chunk = deadline.bound(Phase::Body, response.chunk()).await?;
                chunk.map_err(|why| Failure::of_client(&why, Phase::Body))
            }
        }
    }
}

/// How much of a body was read.
enum Read {
    All,
    /// There was more than may be read.
    Part,
}

/// Reads the body into `body`, to its end if that comes within `bytes_max`: only then can the connection be
/// used again. Else the rest stays unread, and dropping the answer closes the connection.
async fn read_body(
    mut arriving: Arriving<'_>,
    body: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<Read, Failure> {
    while let Some(chunk) = arriving.chunk().await? {
        let room = bytes_max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok(Read::Part);
        }
    }
    Ok(Read::All)
}
