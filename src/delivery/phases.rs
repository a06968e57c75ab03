//! How long an exchange spends looking up a name and connecting, which happens deep inside: the resolver, and who connects,
//! note it for whoever [`watch`]es the exchange. Knows nothing of requests.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

tokio::task_local! {
    /// What is known of the exchange that the current task is at.
    static CONNECTING: Cell<Connecting>;
}

/// What came before the request was on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connecting {
    /// Looking up the host name, successfully or not; `None`: there was no need to.
    pub dns: Option<Duration>,
    /// All of it, from the look-up to where a request can be sent; `None`: there was a connection, or none came about.
    pub whole: Option<Duration>,
}

impl Connecting {
    /// From the address to where a request can be sent.
    #[must_use]
    pub fn connect(self) -> Option<Duration> {
        Some(self.whole?.saturating_sub(self.dns.unwrap_or_default()))
    }

    /// Adds what a later request of the same exchange had to do.
    pub fn add(&mut self, later: Self) {
        self.dns = later.dns.or(self.dns);
        self.whole = later.whole.or(self.whole);
    }

    fn note(change: impl FnOnce(&mut Self)) {
        // Nobody watches a connection that is still being made when its exchange has gone on with another one.
        let _ = CONNECTING.try_with(|cell| {
            let mut connecting = cell.get();
            change(&mut connecting);
            cell.set(connecting);
        });
    }
}

/// Carries out `exchange`, or the part of it that may connect; returns what it returns, and how it connected.
pub async fn watch<F: Future + Unpin>(exchange: F) -> (F::Output, Connecting) {
    let watched = async {
        let output = exchange.await;
        (output, CONNECTING.with(Cell::get))
    };
    CONNECTING.scope(Cell::default(), watched).await
}

/// Looks up a name, and notes how long that takes.
pub async fn looking_up<F: Future>(look_up: F) -> F::Output {
    let started = Instant::now();
    let found = look_up.await;
    Connecting::note(|connecting| connecting.dns = Some(started.elapsed()));
    found
}

/// Connects, and notes how long that takes if it succeeds.
///
/// # Errors
/// Those of `connect`.
pub async fn connecting<C, E>(connect: impl Future<Output = Result<C, E>>) -> Result<C, E> {
    let started = Instant::now();
    let connection = connect.await?;
    Connecting::note(|connecting| connecting.whole = Some(started.elapsed()));
    Ok(connection)
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
