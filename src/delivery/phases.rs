//! How long an exchange spends looking up a name and connecting, which the HTTP client does not tell: a resolver and a
//! layer around its connector note it for whoever [`watch`]es the exchange. Knows nothing of requests.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::dns::{Name, Resolve, Resolving};
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

    fn note(change: impl FnOnce(&mut Self)) {
        // Nobody watches a connection that is still being made when its exchange has gone on with another one.
        let _ = CONNECTING.try_with(|cell| {
            let mut connecting = cell.get();
            change(&mut connecting);
            cell.set(connecting);
        });
    }
}

/// Carries out an exchange; returns what it returns, and how it connected.
pub async fn watch<F: Future>(exchange: F) -> (F::Output, Connecting) {
    let watched = async {
        let output = exchange.await;
        (output, CONNECTING.with(Cell::get))
    };
    CONNECTING.scope(Cell::default(), watched).await
}

/// A resolver, and a note of how long it took.
#[derive(Clone, Copy, Debug)]
pub struct TimedResolver<R>(pub R);

impl<R: Resolve> Resolve for TimedResolver<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let resolving = self.0.resolve(name);
        Box::pin(async move {
            let started = Instant::now();
            let found = resolving.await;
            Connecting::note(|connecting| connecting.dns = Some(started.elapsed()));
            found
        })
    }
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
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let started = Instant::now();
        let connected = self.0.call(target);
        Box::pin(async move {
            let connection = connected.await?;
            Connecting::note(|connecting| connecting.whole = Some(started.elapsed()));
            Ok(connection)
        })
    }
}
