//! `GET /v1/live`: server-sent events (WHATWG HTML, 9.2). Each listener has a bounded queue of its own; one that does
//! not read fast enough is dropped, and may come back.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use super::error::{ApiError, ApiResult};
use super::server::App;
use super::status;
use super::types::{EndpointRow, LiveEvent, LiveRates, LiveRow, Status};

/// Listeners at once; each asks for the status every second.
pub const LISTENERS_MAX: usize = 32;
/// Events that wait to be written to one listener.
const WAITING_MAX: usize = 256;
/// Between two rounds of rates.
const RATES_EVERY: Duration = Duration::from_secs(1);

/// A stream of events.
type Events = ReceiverStream<Result<Event, Infallible>>;

/// `GET /v1/live`: changes of states and dead letters as they happen, rates every second.
pub async fn live(State(app): State<App>) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let place = Arc::clone(&app.listeners).try_acquire_owned().map_err(|_| {
        ApiError::unavailable(
            "too_many",
            format!("there are {LISTENERS_MAX} listeners, which is as many as there may be; close one"),
        )
    })?;
    let (to, events) = mpsc::channel(WAITING_MAX);
    tokio::spawn(feed(app, to, place));
    Ok(Sse::new(Events::new(events)).keep_alive(KeepAlive::default()))
}

/// Hands on what happens until the listener is gone, has fallen behind, or the daemon stops.
async fn feed(app: App, to: mpsc::Sender<Result<Event, Infallible>>, _place: OwnedSemaphorePermit) {
    let mut news = app.operator.news();
    let mut tick = tokio::time::interval(RATES_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let event = tokio::select! {
            () = to.closed() => return,
            () = app.stop.cancelled() => return,
            told = news.recv() => match told {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(_) | broadcast::error::RecvError::Closed) => return,
            },
            _ = tick.tick() => match status::read(&app).await {
                Ok(status) => LiveEvent::Rates(rates(status)),
                Err(_) => return,
            },
        };
        let Some(event) = sse(&event) else { continue };
        // Full means that the listener does not keep up; its stream ends here.
        if to.try_send(Ok(event)).is_err() {
            return;
        }
    }
}

fn sse(event: &LiveEvent) -> Option<Event> {
    fn of(name: &str, data: &impl Serialize) -> Option<Event> {
        Event::default().event(name).json_data(data).ok()
    }
    match event {
        LiveEvent::State(state) => of("state", state),
        LiveEvent::Dead(dead) => of("dead", dead),
        LiveEvent::Rates(rates) => of("rates", rates),
    }
}

fn rates(status: Status) -> LiveRates {
    LiveRates {
        now: status.now,
        endpoints: status.endpoints.into_iter().map(row).collect(),
    }
}

fn row(row: EndpointRow) -> LiveRow {
    LiveRow {
        endpoint: row.name,
        state: row.state,
        pending: row.pending,
        in_flight: row.in_flight,
        dead: row.dead,
        rate_per_second: row.attempts.rate_per_second,
        p50_ms: row.attempts.p50_ms,
        p95_ms: row.attempts.p95_ms,
    }
}
