//! The only file that opens an HTTP connection. It puts one request on the wire, once, and brings back
//! what came: no retries, no proxy from the environment, nothing that would make the number of requests differ
//! from the number of attempts, unless the endpoint asks to follow redirects. What an answer means is not known here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::{Certificate, Client, Identity, Proxy, Response, Url, redirect as follow, retry};
use tokio::time::{Instant, timeout};
use url::Host;

use super::dns::{Names, Resolver};
use super::failure::{Failure, Phase};
use super::phases::{ConnectTimer, TimedResolver, watch};
use super::redirect;
use super::render::OutgoingRequest;
use crate::domain::endpoint::{CannedAnswer, ClientIdentity, RequestPolicy};
use crate::domain::network::{AddressPolicy, NetworkPolicy};
use crate::domain::outcome::{ErrorClass, Exchange};
use crate::domain::secret::Secret;

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

impl Answer {
    /// One that was written down, for a trial.
    #[must_use]
    pub fn canned(written: &CannedAnswer) -> Self {
        let mut headers = HeaderMap::new();
        if written.is_json {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Self {
            status: StatusCode::from_u16(written.status).unwrap_or_default(),
            headers,
            body: written.body.as_bytes().to_vec(),
            broken: None,
        }
    }
}

/// The HTTP clients in use. Endpoints with the same needs share one, and with it the connections; the last
/// endpoint that lets go of a client closes them.
#[derive(Debug, Default)]
pub struct Clients {
    by_need: Mutex<HashMap<Need, Weak<Client>>>,
    names: Arc<Names>,
}

/// What makes one client different from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Need {
    connect_timeout: Duration,
    trust: Trust,
    identity: Option<ClientIdentity>,
    proxy: Option<Secret>,
    network: NetworkPolicy,
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

impl Need {
    fn of(policy: &RequestPolicy, scheme: &str) -> Self {
        let proxy = policy.proxy.as_ref().map(Secret::expose).unwrap_or_default();
        let needs_tls = scheme == "https" || policy.redirects_max > 0 || proxy.starts_with("https:");
        Self {
            connect_timeout: policy.connect_timeout,
            trust: match (needs_tls, policy.tls.verify) {
                (true, true) => Trust::Authorities(policy.tls.ca_pem.clone()),
                (true, false) => Trust::Anybody,
                (false, _) => Trust::Nobody,
            },
            identity: policy.tls.identity.clone().filter(|_| needs_tls),
            proxy: policy.proxy.clone(),
            network: policy.network.clone(),
        }
    }
}

impl Clients {
    /// A sender for `scheme` with what `policy` needs.
    ///
    /// # Errors
    /// One sentence if `tls.ca` holds no certificate, the client certificate or the proxy can't be used, or TLS
    /// cannot be set up on this machine.
    pub fn sender(&self, policy: &RequestPolicy, scheme: &str) -> Result<Sender, String> {
        let need = Need::of(policy, scheme);
        let sender = |client| Sender {
            client,
            addresses: policy.network.addresses.clone(),
            names: Arc::clone(&self.names),
            redirects_max: policy.redirects_max,
        };
        self.client(need).map(sender)
    }

    /// A sender for `scheme` of what the daemon itself has to say: trusts the system's authorities, goes straight
    /// there, follows no redirects.
    ///
    /// # Errors
    /// One sentence if TLS cannot be set up on this machine.
    pub fn own(
        &self,
        scheme: &str,
        connect_timeout: Duration,
        network: &NetworkPolicy,
    ) -> Result<Sender, String> {
        let trust = match scheme {
            "https" => Trust::Authorities(Box::default()),
            _ => Trust::Nobody,
        };
        let need = Need {
            connect_timeout,
            trust,
            identity: None,
            proxy: None,
            network: network.clone(),
        };
        Ok(Sender {
            client: self.client(need)?,
            addresses: network.addresses.clone(),
            names: Arc::clone(&self.names),
            redirects_max: 0,
        })
    }

    /// The client for `need`, which may be in use already.
    fn client(&self, need: Need) -> Result<Arc<Client>, String> {
        let mut by_need = self.by_need.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = by_need.get(&need).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let client = Arc::new(build(&need, &self.names)?);
        by_need.retain(|_, known| known.strong_count() > 0);
        by_need.insert(need, Arc::downgrade(&client));
        Ok(client)
    }
}

fn build(need: &Need, names: &Arc<Names>) -> Result<Client, String> {
    let builder = Client::builder().tls_backend_rustls();
    let mut builder = match &need.trust {
        Trust::Nobody => builder.tls_certs_only([]),
        Trust::Authorities(pem) => builder.tls_certs_merge(authorities(pem)?),
        Trust::Anybody => builder.tls_danger_accept_invalid_certs(true),
    };
    if let Some(identity) = &need.identity {
        builder = builder.identity(client_identity(identity)?);
    }
    builder = builder.no_proxy();
    if let Some(url) = &need.proxy {
        builder = builder.proxy(proxy(url, &need.network.addresses)?);
    }
    let resolver = Resolver::new(Arc::clone(names), need.network.clone());
    builder
        .dns_resolver(TimedResolver(resolver))
        .connector_layer(ConnectTimer)
        .retry(retry::never())
        .redirect(follow::Policy::none())
        .referer(false)
        .connect_timeout(need.connect_timeout)
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

fn client_identity(identity: &ClientIdentity) -> Result<Identity, String> {
    let pem = format!("{}\n{}", identity.certificate_pem, identity.key_pem.expose());
    Identity::from_pem(pem.as_bytes()).map_err(|_| {
        "tls.client_cert and tls.client_key hold no certificate and its key in PEM form".to_owned()
    })
}

/// The proxy at `url`. Its address is held to the same rules as any other: a name when it is connected to, an
/// address in the URL here.
fn proxy(url: &Secret, addresses: &AddressPolicy) -> Result<Proxy, String> {
    const WRONG: &str = "proxy is not a URL like http://proxy.example:3128 or socks5://proxy.example:1080";
    let parsed = Url::parse(url.expose()).map_err(|_| WRONG)?;
    check_literal(&parsed, addresses).map_err(|failure| format!("proxy: {}", failure.cause))?;
    Proxy::all(url.expose()).map_err(|_| WRONG.to_owned())
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
}

impl Sent {
    /// The answer's status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.result.as_ref().ok().map(|answer| answer.status)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Sends requests over one client's connections.
#[derive(Clone, Debug)]
pub struct Sender {
    client: Arc<Client>,
    addresses: AddressPolicy,
    names: Arc<Names>,
    redirects_max: u32,
}

impl Sender {
    /// Sends `request` once, follows as many redirects as the endpoint allows, and reads the answer, all within
    /// `bounds` of `started`. Measures how long each phase takes.
    pub async fn send(&self, request: OutgoingRequest, bounds: Bounds, started: Instant) -> Sent {
        let began = Instant::now();
        let sent_bytes = request.body.len() as u64;
        let mut head_at = None;
        let (result, connecting) = watch(self.follow(request, bounds, started, &mut head_at)).await;
        let total = began.elapsed();
        let head_in = head_at.map(|at: Instant| at.saturating_duration_since(began));
        let connect = connecting.connect();
        Sent {
            exchange: Exchange {
                total_us: micros(total),
                reused: head_in.is_some() && connecting.whole.is_none(),
                dns_us: connecting.dns.map(micros),
                connect_us: connect.map(micros),
                first_byte_us: head_in
                    .map(|head| micros(head.saturating_sub(connecting.whole.unwrap_or_default()))),
                body_us: head_in.map(|head| micros(total.saturating_sub(head))),
                sent_bytes,
                received_bytes: result.as_ref().map_or(0, |answer| answer.body.len() as u64),
            },
            result,
        }
    }

    async fn follow(
        &self,
        mut request: OutgoingRequest,
        bounds: Bounds,
        started: Instant,
        head_at: &mut Option<Instant>,
    ) -> Result<Answer, Failure> {
        for _ in 0..self.redirects_max {
            let answer = self.exchange(request.clone(), bounds, started, head_at).await?;
            match redirect::next(&request, answer.status, &answer.headers) {
                Some(next) => request = next,
                None => return Ok(answer),
            }
        }
        self.exchange(request, bounds, started, head_at).await
    }

    async fn exchange(
        &self,
        request: OutgoingRequest,
        bounds: Bounds,
        started: Instant,
        head_at: &mut Option<Instant>,
    ) -> Result<Answer, Failure> {
        check_literal(&request.url, &self.addresses)?;
        let left = || bounds.timeout.saturating_sub(started.elapsed());
        let mut wire = reqwest::Request::new(request.method, request.url);
        *wire.headers_mut() = request.headers;
        *wire.body_mut() = Some(request.body.into());
        let mut response = match timeout(left(), self.client.execute(wire)).await {
            Ok(result) => result.map_err(|why| self.failed(&why))?,
            Err(_) => return Err(Failure::deadline(bounds.timeout, Phase::Head)),
        };
        *head_at = Some(Instant::now());
        let mut answer = Answer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: Vec::new(),
            broken: None,
        };
        let reading = read_body(&mut response, &mut answer.body, bounds.response_bytes_max);
        answer.broken = match timeout(left(), reading).await {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(Failure::of(&why, Phase::Body)),
            Err(_) => Some(Failure::deadline(bounds.timeout, Phase::Body)),
        };
        Ok(answer)
    }

    /// What an exchange died of. A host that could not be connected to may have moved, so its name is looked up
    /// anew the next time.
    fn failed(&self, why: &reqwest::Error) -> Failure {
        let failure = Failure::of(why, Phase::Head);
        if failure.class == ErrorClass::Connect
            && let Some(name) = why.url().and_then(Url::host_str)
        {
            self.names.forget(name);
        }
        failure
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
