//! The only file that opens an HTTP connection. It puts one request on the wire, once, and brings back
//! what came: no retries, no redirects, no proxy from the environment, nothing that would make the number
//! of requests differ from the number of attempts. What an answer means is not known here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use reqwest::{Certificate, Client, Response, redirect, retry};
use tokio::time::{Instant, timeout};

use super::failure::{Failure, Phase};
use super::phases::{ConnectTimer, TimedResolver, watch};
use super::render::OutgoingRequest;
use crate::domain::endpoint::RequestPolicy;
use crate::domain::outcome::Exchange;

/// An idle connection is closed after this: before most servers do it (nginx 75 s, load balancers 60 s),
/// since a request that meets a closing connection is lost.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The kernel asks a silent peer for a sign of life this often, so that connections to vanished hosts end.
const KEEPALIVE: Duration = Duration::from_secs(30);

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
    /// Headers.
    pub headers: HeaderMap,
    /// The body, decompressed, cut at [`Bounds::response_bytes_max`].
    pub body: Vec<u8>,
    /// Set when the body broke off before its end or that bound.
    pub broken: Option<Failure>,
}

/// The HTTP clients in use. Endpoints with the same needs share one, and with it the connections; the last
/// endpoint that lets go of a client closes them.
#[derive(Debug, Default)]
pub struct Clients {
    by_need: Mutex<HashMap<Need, Weak<Client>>>,
}

/// What makes one client different from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Need {
    connect_timeout: Duration,
    trust: Trust,
}

/// Whose certificates are taken for good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Trust {
    /// Nobody's: for plain HTTP, which has to work on machines without any authorities installed.
    Nobody,
    /// Those of the system's authorities, and of the ones in this PEM text, if any.
    Authorities(Box<str>),
    /// Any: verification was turned off.
    Anybody,
}

impl Clients {
    /// A sender for `scheme` with what `policy` needs.
    ///
    /// # Errors
    /// One sentence if `tls.ca` holds no certificate, or TLS cannot be set up on this machine.
    pub fn sender(&self, policy: &RequestPolicy, scheme: &str) -> Result<Sender, String> {
        let trust = match (scheme, policy.tls.verify) {
            ("https", true) => Trust::Authorities(policy.tls.ca_pem.clone()),
            ("https", false) => Trust::Anybody,
            _ => Trust::Nobody,
        };
        let need = Need {
            connect_timeout: policy.connect_timeout,
            trust,
        };
        let mut by_need = self.by_need.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = by_need.get(&need).and_then(Weak::upgrade) {
            return Ok(Sender { client });
        }
        let client = Arc::new(build(&need)?);
        by_need.retain(|_, known| known.strong_count() > 0);
        by_need.insert(need, Arc::downgrade(&client));
        Ok(Sender { client })
    }
}

fn build(need: &Need) -> Result<Client, String> {
    let builder = Client::builder().tls_backend_rustls();
    let builder = match &need.trust {
        Trust::Nobody => builder.tls_certs_only([]),
        Trust::Authorities(pem) => builder.tls_certs_merge(authorities(pem)?),
        Trust::Anybody => builder.tls_danger_accept_invalid_certs(true),
    };
    builder
        .retry(retry::never())
        .redirect(redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(need.connect_timeout)
        .dns_resolver(TimedResolver)
        .connector_layer(ConnectTimer)
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
        .pool_idle_timeout(IDLE_MAX)
        // As many as were in flight, which `limits.in_flight` bounds.
        .pool_max_idle_per_host(usize::MAX)
        .build()
        .map_err(|why| {
            let cause = Failure::of(&why, Phase::Head).cause;
            format!("TLS cannot be set up from tls.ca and this system's certificates: {cause}")
        })
}

/// The authorities in `pem`, to be trusted beside the system's.
fn authorities(pem: &str) -> Result<Vec<Certificate>, String> {
    if pem.is_empty() {
        return Ok(Vec::new());
    }
    match Certificate::from_pem_bundle(pem.as_bytes()) {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err("tls.ca holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".to_owned()),
    }
}

/// One exchange: what came of it, and what it took.
#[derive(Debug)]
pub struct Sent {
    /// The answer, or what the exchange died of, if it died before there was a status.
    pub result: Result<Answer, Failure>,
    /// Its phases and bytes.
    pub exchange: Exchange,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Sends requests over one client's connections.
#[derive(Clone, Debug)]
pub struct Sender {
    client: Arc<Client>,
}

impl Sender {
    /// Sends `request` once and reads the answer, within `bounds`. Measures how long each phase takes.
    pub async fn send(&self, request: OutgoingRequest, bounds: Bounds) -> Sent {
        let started = Instant::now();
        let sent_bytes = request.body.len() as u64;
        let mut head_in = None;
        let (result, connecting) = watch(self.exchange(request, bounds, started, &mut head_in)).await;
        let total = started.elapsed();
        let connect = connecting.connect();
        Sent {
            exchange: Exchange {
                total_us: micros(total),
                reused: head_in.is_some() && connecting.whole.is_none(),
                dns_us: connecting.dns.map(micros),
                connect_us: connect.map(micros),
                first_byte_us: head_in
                    .map(|head: Duration| micros(head.saturating_sub(connecting.whole.unwrap_or_default()))),
                body_us: head_in.map(|head| micros(total.saturating_sub(head))),
                sent_bytes,
                received_bytes: result.as_ref().map_or(0, |answer| answer.body.len() as u64),
            },
            result,
        }
    }

    async fn exchange(
        &self,
        request: OutgoingRequest,
        bounds: Bounds,
        started: Instant,
        head_in: &mut Option<Duration>,
    ) -> Result<Answer, Failure> {
        let mut wire = reqwest::Request::new(request.method, request.url);
        *wire.headers_mut() = request.headers;
        *wire.body_mut() = Some(request.body.into());
        let mut response = match timeout(bounds.timeout, self.client.execute(wire)).await {
            Ok(result) => result.map_err(|why| Failure::of(&why, Phase::Head))?,
            Err(_) => return Err(Failure::deadline(bounds.timeout, Phase::Head)),
        };
        *head_in = Some(started.elapsed());
        let mut answer = Answer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: Vec::new(),
            broken: None,
        };
        let left = bounds.timeout.saturating_sub(started.elapsed());
        let reading = read_body(&mut response, &mut answer.body, bounds.response_bytes_max);
        answer.broken = match timeout(left, reading).await {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(Failure::of(&why, Phase::Body)),
            Err(_) => Some(Failure::deadline(bounds.timeout, Phase::Body)),
        };
        Ok(answer)
    }
}

/// Reads the body into `body`, to its end if that comes within `bytes_max`: only then can the connection be
/// used again. Else the rest stays unread, and dropping the response closes the connection.
async fn read_body(
    response: &mut Response,
    body: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), reqwest::Error> {
    while let Some(chunk) = response.chunk().await? {
        let room = bytes_max - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            break;
        }
    }
    Ok(())
}
