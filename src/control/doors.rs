//! Connections of operators: who is at the other end, how many at once, and for how long one may dawdle. Knows two
//! kinds of sockets and HTTP/1.1; refuses to know routes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::access::Credentials;

/// Connections at one door; who comes later waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take for the head of a request, idle time before it included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests under way have so long to end once the daemon is stopping.
const DRAIN: Duration = Duration::from_secs(5);
/// How long to wait after `accept` has failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket of the control API.
#[derive(Debug)]
pub enum Door {
    /// On this machine; the kernel says who comes.
    Unix(UnixListener),
    /// Over TCP; who comes has to show the token.
    Tcp(TcpListener),
}

impl From<UnixListener> for Door {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl From<TcpListener> for Door {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The process, as the kernel noted it when it connected; unknown for one that came over TCP.
    pub credentials: Credentials,
    /// Where it came from, if over TCP.
    pub address: Option<SocketAddr>,
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Serves `router` at `door` until `stop` is cancelled, then lets requests under way end, for at most [`DRAIN`].
pub async fn serve(door: Door, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&door, &permits) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else {
            break;
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            match stream {
                Stream::Unix(stream) => converse(stream, peer, router, stop).await,
                Stream::Tcp(stream) => converse(stream, peer, router, stop).await,
            }
            drop(permit);
        });
    }
    drop(door);
    connections.close();
    // Whoever is not done by then is cut off with the runtime.
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
}

/// The next connection, once there is room for it.
async fn accept(door: &Door, permits: &Arc<Semaphore>) -> Option<(Stream, Peer, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    loop {
        match accept_one(door).await {
            Ok((stream, peer)) => return Some((stream, peer, permit)),
            Err(error) => {
                tracing::warn!(%error, "no operator's connection could be taken; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept_one(door: &Door) -> io::Result<(Stream, Peer)> {
    match door {
        Door::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let peer = stream.peer_cred().ok();
            let credentials = Credentials {
                uid: peer.map(|peer| peer.uid()),
                gid: peer.map(|peer| peer.gid()),
            };
            let address = None;
            Ok((Stream::Unix(stream), Peer { credentials, address }))
        }
        Door::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            let peer = Peer {
                credentials: Credentials::default(),
                address: Some(address),
            };
            Ok((Stream::Tcp(stream), peer))
        }
    }
}

/// One connection, request after request.
async fn converse<S>(stream: S, peer: Peer, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A client that breaks off or talks nonsense ends its own connection; nobody else needs to know.
    tokio::select! {
        ended = connection.as_mut() => drop(ended),
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}
