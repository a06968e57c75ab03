//! How long an exchange spends looking up a name, connecting and shaking hands for TLS, which happens deep inside: the
//! resolver, who connects, and the TLS library's source of randomness note it for whoever [`watch`]es the exchange. Knows
//! nothing of requests.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// What is known of the exchange that the current task is at.
    static NOTES: Cell<Notes>;
}

/// What came before the request was on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connecting {
    /// Looking up the host name, successfully or not; `None`: there was no need to.
    pub dns: Option<Duration>,
    /// From the address to where the TLS handshake begins; without one, to where a request can be sent. `None`: there
    /// was a connection, or none came about.
    pub connect: Option<Duration>,
    /// The TLS handshake, successfully or not; `None`: there was none.
    pub tls: Option<Duration>,
    /// All of it, from the look-up to where a request can be sent; `None`: there was a connection, or none came about.
    pub whole: Option<Duration>,
}

impl Connecting {
    /// Adds what a later request of the same exchange had to do.
    pub fn add(&mut self, later: Self) {
        self.dns = later.dns.or(self.dns);
        if later.connect.is_some() {
            (self.connect, self.tls) = (later.connect, later.tls);
        }
        self.whole = later.whole.or(self.whole);
    }
}

/// What is noted while an exchange is under way.
#[derive(Clone, Copy, Debug, Default)]
struct Notes {
    dns: Option<Duration>,
    began: Option<Instant>,
    /// When the first TLS handshake began.
    hello: Option<Instant>,
    ready: Option<Instant>,
}

impl Notes {
    fn add(change: impl FnOnce(&mut Self)) {
        // Nobody watches a connection that is still being made when its exchange has gone on with another one.
        let _ = NOTES.try_with(|cell| {
            let mut notes = cell.get();
            change(&mut notes);
            cell.set(notes);
        });
    }

    /// What they come to when the exchange is over, at `now`.
    fn told(self, now: Instant) -> Connecting {
        let since_began = |at: Instant| Some(at.saturating_duration_since(self.began?));
        let connected = self.hello.or(self.ready).and_then(since_began);
        let handshake_over = self.ready.unwrap_or(now);
        Connecting {
            dns: self.dns,
            connect: connected.map(|took| took.saturating_sub(self.dns.unwrap_or_default())),
            tls: self
                .hello
                .map(|hello| handshake_over.saturating_duration_since(hello)),
            whole: self.ready.and_then(since_began),
        }
    }
}

/// Carries out `exchange`, or the part of it that may connect; returns what it returns, and how it connected.
pub async fn watch<F: Future + Unpin>(exchange: F) -> (F::Output, Connecting) {
    let watched = async {
        let output = exchange.await;
        (output, NOTES.with(Cell::get).told(Instant::now()))
    };
    NOTES.scope(Cell::default(), watched).await
}

/// Looks up a name, and notes how long that takes.
pub async fn looking_up<F: Future>(look_up: F) -> F::Output {
    let started = Instant::now();
    let found = look_up.await;
    Notes::add(|notes| notes.dns = Some(started.elapsed()));
    found
}

/// Connects, and notes how long that takes if it succeeds.
///
/// # Errors
/// Those of `connect`.
pub async fn connecting<C, E>(connect: impl Future<Output = Result<C, E>>) -> Result<C, E> {
    Notes::add(|notes| notes.began = Some(Instant::now()));
    let connection = connect.await?;
    Notes::add(|notes| notes.ready = Some(Instant::now()));
    Ok(connection)
}

/// Notes that a TLS handshake begins. Of several, which is what an https proxy comes to, only the first counts.
pub fn shaking_hands() {
    Notes::add(|notes| {
        notes.hello.get_or_insert_with(Instant::now);
    });
}

/// Puts [`Timed`] around a connector.
#[derive(Clone, Copy, Debug)]
pub struct ConnectTimer;

impl<S> Layer<S> for ConnectTimer {
    type Service = Timed<S>;

    fn layer(&self, connector: S) -> Timed<S> {
        Timed(connector)
    }
}

/// A connector that notes how long it takes.
#[derive(Clone, Debug)]
pub struct Timed<S>(S);

impl<S, Target> Service<Target> for Timed<S>
where
    S: Service<Target>,
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        Box::pin(connecting(self.0.call(target)))
    }
}
