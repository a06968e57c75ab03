//! Which roads requests take, and what makes one different from another: whose certificates are trusted, the client's own,
//! the proxy, what may be connected to. Endpoints with the same needs share their connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::{Certificate, Client, Identity, Proxy, Url, redirect as follow, retry};

use super::deadline::Deadline;
use super::handshake::note_handshakes;
use super::lines::Lines;
use super::{Arriving, IDLE_MAX, KEEPALIVE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, Sender, check_literal};
use crate::delivery::dns::{Names, Resolver};
use crate::delivery::failure::{Failure, Phase};
use crate::delivery::phases::{ConnectTimer, Connecting, watch};
use crate::delivery::render::OutgoingRequest;
use crate::domain::endpoint::{ClientIdentity, RequestPolicy};
use crate::domain::network::{AddressPolicy, NetworkPolicy};
use crate::domain::secret::Secret;

/// The roads in use; the last endpoint that lets go of one closes its connections.
#[derive(Debug, Default)]
pub struct Clients {
    by_need: Mutex<HashMap<Need, Weak<Roads>>>,
    names: Arc<Names>,
}

/// The ways on which a request can get there.
#[derive(Debug)]
pub(super) struct Roads {
    /// For plain HTTP straight to the host.
    lines: Lines,
    /// For everything else; `None`: there is nothing else.
    client: Option<Client>,
    has_proxy: bool,
    resolver: Resolver,
}

impl Roads {
    /// Sends `request`, and waits for the head of its answer. How it connected, if it had to, is added to
    /// `connecting`.
    pub async fn ask<'a>(
        &'a self,
        request: &OutgoingRequest,
        deadline: Deadline,
        connecting: &mut Connecting,
    ) -> Result<Arriving<'a>, Failure> {
        let client = match &self.client {
            Some(client) if self.has_proxy || request.url.scheme() != "http" => client,
            _ => {
                let answer = self.lines.request(request, deadline, connecting).await?;
                return Ok(Arriving::Line(Box::new(answer)));
            }
        };
        self.ask_client(client, request, deadline, connecting).await
    }

    /// The same by way of the library's client. Where the host closes a new connection before anything was sent on it, the
    /// library often loses why, so it is asked once more; a host that refuses a client certificate does that (in TLS 1.3 it
    /// reads the certificate when the handshake is over for the client, RFC 8446 §4.4.2.4).
    async fn ask_client<'a>(
        &'a self,
        client: &Client,
        request: &OutgoingRequest,
        deadline: Deadline,
        connecting: &mut Connecting,
    ) -> Result<Arriving<'a>, Failure> {
        let mut was_unsent = false;
        loop {
            let mut wire = reqwest::Request::new(request.method.clone(), request.url.clone());
            *wire.headers_mut() = request.headers.clone().into();
            *wire.body_mut() = Some(request.body.clone().into());
            // In a box, because those that go the other way would carry its state about.
            let asking = watch(Box::pin(client.execute(wire)));
            let (answer, how) = deadline.bound(Phase::Head, asking).await?;
            connecting.add(how);
            let why = match answer {
                Ok(response) => return Ok(Arriving::Client(Box::new(response), deadline)),
                Err(why) => why,
            };
            let failure = match Failure::is_unsent(&why) {
                true if !was_unsent => {
                    was_unsent = true;
                    continue;
                }
                true if how.whole.is_some() && request.url.scheme() == "https" => Failure::hung_up(),
                _ => Failure::of_client(&why, Phase::Head),
            };
            if let Some(name) = why.url().and_then(Url::host_str) {
                self.resolver.learn(name, &failure);
            }
            return Err(failure);
        }
    }
}

/// What makes one road different from another.
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
    fn of(policy: &RequestPolicy, is_plain_http: bool) -> Self {
        let proxy = policy.proxy.as_ref().map(Secret::expose).unwrap_or_default();
        let needs_tls = !is_plain_http || policy.redirects_max > 0 || proxy.starts_with("https:");
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

    /// Whether all that can be asked for is plain HTTP straight to the host.
    fn is_plain(&self) -> bool {
        matches!(self.trust, Trust::Nobody) && self.proxy.is_none()
    }
}

impl Clients {
    /// A sender of what `policy` allows. `is_plain_http`: no request goes anywhere but to `http:`.
    ///
    /// # Errors
    /// One sentence if `tls.ca` holds no certificate, the client certificate or the proxy can't be used, or TLS
    /// cannot be set up on this machine.
    pub fn sender(&self, policy: &RequestPolicy, is_plain_http: bool) -> Result<Sender, String> {
        Ok(Sender {
            roads: self.roads(Need::of(policy, is_plain_http))?,
            addresses: policy.network.addresses.clone(),
            redirects_max: policy.redirects_max,
        })
    }

    /// A sender of what the daemon itself has to say: trusts the system's authorities, goes straight
    /// there, follows no redirects.
    ///
    /// # Errors
    /// One sentence if TLS cannot be set up on this machine.
    pub fn own(
        &self,
        is_plain_http: bool,
        connect_timeout: Duration,
        network: &NetworkPolicy,
    ) -> Result<Sender, String> {
        let need = Need {
            connect_timeout,
            trust: match is_plain_http {
                true => Trust::Nobody,
                false => Trust::Authorities(Box::default()),
            },
            identity: None,
            proxy: None,
            network: network.clone(),
        };
        Ok(Sender {
            roads: self.roads(need)?,
            addresses: network.addresses.clone(),
            redirects_max: 0,
        })
    }

    /// The names that all of them look up.
    #[cfg(test)]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The roads for `need`, which may be in use already.
    fn roads(&self, need: Need) -> Result<Arc<Roads>, String> {
        let mut by_need = self.by_need.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(roads) = by_need.get(&need).and_then(Weak::upgrade) {
            return Ok(roads);
        }
        let resolver = Resolver::new(Arc::clone(&self.names), need.network.clone());
        let roads = Arc::new(Roads {
            client: match need.is_plain() {
                true => None,
                false => Some(build(&need, resolver.clone())?),
            },
            lines: Lines::new(resolver.clone(), need.connect_timeout),
            has_proxy: need.proxy.is_some(),
            resolver,
        });
        by_need.retain(|_, known| known.strong_count() > 0);
        by_need.insert(need, Arc::downgrade(&roads));
        Ok(roads)
    }
}

fn build(need: &Need, resolver: Resolver) -> Result<Client, String> {
    note_handshakes();
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
    builder
        .dns_resolver(resolver)
        .connector_layer(ConnectTimer)
        .retry(retry::never())
        .redirect(follow::Policy::none())
        .referer(false)
        .connect_timeout(need.connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
        .tcp_keepalive_retries(KEEPALIVE_PROBES)
        .pool_idle_timeout(IDLE_MAX)
        // As many as were in flight, which `limits.in_flight` bounds.
        .pool_max_idle_per_host(usize::MAX)
        .build()
        .map_err(|why| {
            let cause = Failure::of_client(&why, Phase::Head).cause;
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
