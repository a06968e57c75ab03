//! Makes the spans and puts them into a queue with a bound. A full queue drops the span and counts it: nothing that is
//! accepted or delivered ever waits for a trace. Knows neither who empties the queue nor what time it is.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::context::{Context, Origin};
use super::span::{self, Cargo, Span};
use crate::domain::endpoint::Endpoint;
use crate::domain::event::{Event, EventHead};
use crate::domain::outcome::{Attempt, Exchange};

/// Spans that wait to be exported. Each is about 1 KiB.
pub const QUEUE_MAX: usize = 4096;

/// Links of one span; events of a batch beyond them are not linked.
const LINKS_MAX: usize = 128;

/// Nanoseconds since 1970.
pub type Nanos = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What has become of the spans since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Sent, and taken.
    pub exported: AtomicU64,
    /// Lost: the queue was full, or the receiver did not take them.
    pub dropped: AtomicU64,
}

impl Counts {
    /// Counts `spans` more.
    pub fn add(counter: &AtomicU64, spans: usize) {
        // Nothing is ordered by a count.
        counter.fetch_add(spans as u64, Ordering::Relaxed);
    }
}

/// Makes spans of what is sampled.
pub struct Tracer {
    queue: mpsc::Sender<Span>,
    sample: f64,
    clock: Nanos,
    counts: Arc<Counts>,
    ids: RandomState,
    spans: AtomicU64,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("sample", &self.sample)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// Events that are on their way to the disk, with what their spans need.
#[derive(Debug)]
pub struct Accepting {
    start_ns: u64,
    events: Vec<(Place, Origin, EventHead, usize)>,
}

/// Which event of which group.
pub type Place = (usize, usize);

/// A try that is under way.
#[derive(Debug)]
pub struct Attempting {
    tracer: Arc<Tracer>,
    context: Context,
    parent: u64,
    start_ns: u64,
    cargo: Cargo,
}

impl Tracer {
    /// A tracer that samples the share `sample` of the traces that begin here, and the queue its spans go to.
    #[must_use]
    pub fn new(sample: f64, clock: Nanos) -> (Self, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(QUEUE_MAX);
        let tracer = Self {
            queue,
            sample,
            clock,
            counts: Arc::default(),
            ids: RandomState::new(),
            spans: AtomicU64::new(0),
        };
        (tracer, spans)
    }

    /// What has become of the spans.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Notes events that go to the disk now, each with the number of its deliveries. `None`: none of them is sampled.
    pub fn accepting<'a>(
        &self,
        events: impl Iterator<Item = (Place, &'a EventHead, usize)>,
    ) -> Option<Accepting> {
        let sampled = events.filter_map(|(place, head, deliveries)| {
            let origin = Origin::of(head, self.sample);
            let is_sampled = origin.context().sampled;
            is_sampled.then(|| (place, origin, head.clone(), deliveries))
        });
        let events: Vec<_> = sampled.collect();
        (!events.is_empty()).then(|| Accepting {
            start_ns: (self.clock)(),
            events,
        })
    }

    /// Of the events of `accepting` those that `is_new` are on disk now; the others had been before, or were refused.
    pub fn accepted(&self, accepting: Accepting, is_new: impl Fn(Place) -> bool) {
        let times = (accepting.start_ns, (self.clock)());
        for (place, origin, head, deliveries) in accepting.events {
            if is_new(place) {
                self.put(span::accepted(origin, self.id(), &head, deliveries, times));
            }
        }
    }

    /// Begins the span of a try at delivering `events` together, and lets their `traceparent` name it, so that the
    /// endpoint's spans, and events born from its answer, hang under the try. `None`: it is not sampled.
    pub fn attempting(self: &Arc<Self>, events: &mut [Event]) -> Option<Attempting> {
        let first = events.first()?;
        let parent = Origin::of(&first.head, self.sample).context();
        if !parent.sampled {
            return None;
        }
        let others = events.iter().skip(1);
        let others = others.map(|event| Origin::of(&event.head, self.sample).context());
        let cargo = Cargo {
            head: first.head.clone(),
            events: events.len(),
            links: others.filter(|context| context.sampled).take(LINKS_MAX).collect(),
        };
        let context = Context {
            span_id: self.id(),
            ..parent
        };
        for event in events {
            event.head.traceparent = Some(context.to_string().into());
        }
        Some(Attempting {
            tracer: Arc::clone(self),
            context,
            parent: parent.span_id,
            start_ns: (self.clock)(),
            cargo,
        })
    }

    /// An id no other span has.
    fn id(&self) -> u64 {
        let number = self.spans.fetch_add(1, Ordering::Relaxed);
        self.ids.hash_one(number).max(1)
    }

    fn put(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            Counts::add(&self.counts.dropped, 1);
        }
    }
}

impl Attempting {
    /// The try has ended so.
    pub fn end(self, endpoint: &Endpoint, attempt: &Attempt, exchange: &Exchange) {
        let times = (self.start_ns, (self.tracer.clock)());
        let span = span::attempted(
            self.context,
            self.parent,
            self.cargo,
            endpoint,
            attempt,
            exchange,
            times,
        );
        self.tracer.put(span);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::endpoint::fixture;
    use crate::domain::outcome::Outcome;
    use crate::domain::time::Timestamp;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn event(id: &str, traceparent: Option<&str>) -> Event {
        Event {
            head: EventHead {
                traceparent: traceparent.map(Into::into),
                ..EventHead::new(id, "/x", "t", Timestamp(1))
            },
            json: Bytes::from_static(b"{}"),
        }
    }

    fn tracer(sample: f64) -> (Arc<Tracer>, mpsc::Receiver<Span>) {
        let (tracer, spans) = Tracer::new(sample, Arc::new(|| 7));
        (Arc::new(tracer), spans)
    }

    /// H6: nobody takes the spans: the queue fills up, the rest is counted, and nobody waits.
    #[test]
    fn h6_a_full_queue_drops_and_counts() {
        let (tracer, mut spans) = tracer(1.0);
        let head = event("a", None).head;
        for _ in 0..QUEUE_MAX + 10 {
            let accepting = tracer.accepting(std::iter::once(((0, 0), &head, 1))).unwrap();
            tracer.accepted(accepting, |_| true);
        }
        assert_eq!(tracer.counts().dropped.load(Ordering::Relaxed), 10);
        let mut taken = 0;
        while spans.try_recv().is_ok() {
            taken += 1;
        }
        assert_eq!(taken, QUEUE_MAX);
    }

    /// H6: of what was handed to the store only what is new has a span; nothing is noted of what is not sampled.
    #[test]
    fn h6_duplicates_are_no_accepted_events() {
        let (on, mut spans) = tracer(1.0);
        let heads = [event("a", None).head, event("b", None).head];
        let events = heads.iter().enumerate().map(|(n, head)| ((0, n), head, 1));
        let accepting = on.accepting(events.clone()).unwrap();
        on.accepted(accepting, |(_, index)| index == 1);
        let span = spans.try_recv().unwrap();
        assert_eq!(span.context, Origin::of(&heads[1], 1.0).context());
        assert!(spans.try_recv().is_err());
        assert!(tracer(0.0).0.accepting(events).is_none());
    }

    /// H6: a batch hangs under its first event and is linked to the others; each is told of the try.
    #[test]
    fn h6_a_batch_is_one_span() {
        let (tracer, mut spans) = tracer(1.0);
        let mut events = [event("a", Some(PARENT)), event("b", None)];
        let other = Origin::of(&events[1].head, 1.0).context();
        let attempting = tracer.attempting(&mut events).unwrap();
        let told = events[0].head.traceparent.clone();
        assert_eq!(told, events[1].head.traceparent);
        assert_ne!(told.as_deref(), Some(PARENT));
        let attempt = Attempt {
            duration_ms: 1,
            status: Some(200),
            ..Attempt::new(1, Timestamp(1), Outcome::Delivered)
        };
        let endpoint = fixture::endpoint("crm", "https://crm.example/hook");
        attempting.end(&endpoint, &attempt, &Exchange::default());
        let span = spans.try_recv().unwrap();
        assert_eq!(span.context.to_string(), &*told.unwrap());
        assert_eq!(
            (span.parent, span.links),
            (Context::parse(PARENT).map(|context| context.span_id), vec![other])
        );
    }
}
