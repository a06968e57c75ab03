//! Which trace an event belongs to, and whether it is sampled. Pure: the same event gives the same answer at every try
//! and after every restart, so nothing of it has to be kept.

use std::fmt;
use std::hash::Hash;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::domain::event::EventHead;

/// Sets the ids of traces that begin here apart from everything else that is hashed.
const DOMAIN: (u64, u64) = (0x706f_7374_6861_7374, 0x6574_7261_6365_6964);

/// The ids of a span and its trace, as a `traceparent` carries them (W3C Trace Context §3.2). Neither id is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace_id: u128,
    /// The span.
    pub span_id: u64,
    /// Whether whoever began it has it recorded.
    pub sampled: bool,
}

impl Context {
    /// Reads a `traceparent`; `None` for what is none. Later versions than 00 may go on behind the flags (§4.3).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let mut next = |digits| parts.next().filter(|part| part.len() == digits && is_hex(part));
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let trace_id = u128::from_str_radix(trace, 16).ok()?;
        let span_id = u64::from_str_radix(span, 16).ok()?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let is_valid = version != "ff" && trace_id != 0 && span_id != 0;
        is_valid.then_some(Self {
            trace_id,
            span_id,
            sampled: flags & 1 == 1,
        })
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// As the value of `traceparent`.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id)
    }
}

/// Where the spans of one event hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Under its producer's span.
    Producer(Context),
    /// Nobody's: the trace begins with this span, which is that of its being accepted.
    Here(Context),
}

impl Origin {
    /// The origin of the event with this head. A trace that its producer began is sampled if the producer said so, one
    /// that begins here with the probability `sample`, 0 to 1.
    #[must_use]
    pub fn of(head: &EventHead, sample: f64) -> Self {
        if let Some(context) = head.traceparent.as_deref().and_then(Context::parse) {
            return Self::Producer(context);
        }
        let mut hasher = SipHasher13::new_with_keys(DOMAIN.0, DOMAIN.1);
        (&*head.source, &*head.id, head.accepted.0).hash(&mut hasher);
        let trace = hasher.finish128();
        1_u8.hash(&mut hasher);
        let span_id = hasher.finish128().h1.max(1);
        Self::Here(Context {
            trace_id: trace.as_u128().max(1),
            span_id,
            sampled: is_sampled(trace.h2, sample),
        })
    }

    /// The span that the event's other spans are children of.
    #[must_use]
    pub fn context(self) -> Context {
        match self {
            Self::Producer(context) | Self::Here(context) => context,
        }
    }
}

/// Whether a trace is among the share `sample` of all. Decided by the id, so that it holds for every span of a trace.
fn is_sampled(id: u64, sample: f64) -> bool {
    // 2^53 steps are what a float tells apart.
    let place = (id >> 11) as f64 / (1_u64 << 53) as f64;
    place < sample
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    fn head(id: &str, traceparent: Option<&str>) -> EventHead {
        EventHead {
            traceparent: traceparent.map(Into::into),
            ..EventHead::new(id, "/x", "t", Timestamp(1))
        }
    }

    /// W3C Trace Context §3.2.2: what is valid is read and written back, what is not is no context.
    #[test]
    fn h6_traceparents_are_read_and_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = Context::parse(text).unwrap();
        assert_eq!((context.span_id, context.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.to_string(), text);
        let later = format!("cc{}-more", &text[2..]);
        assert_eq!(Context::parse(&later), Some(context));
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        ] {
            assert_eq!(Context::parse(wrong), None, "{wrong}");
        }
    }

    /// A trace that begins here is the same whenever it is asked for; a producer's is gone on with.
    #[test]
    fn h6_an_event_has_one_trace() {
        let one = Origin::of(&head("a", None), 1.0);
        assert_eq!(one, Origin::of(&head("a", None), 1.0));
        assert_ne!(
            one.context().trace_id,
            Origin::of(&head("b", None), 1.0).context().trace_id
        );
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let producers = Origin::of(&head("a", Some(text)), 1.0);
        assert_eq!(producers, Origin::Producer(Context::parse(text).unwrap()));
        assert!(
            !producers.context().sampled,
            "its producer does not want it recorded"
        );
    }

    #[test]
    fn h6_the_sampled_share_is_what_was_asked_for() {
        let sampled = |sample: f64| {
            let origins = (0..10_000).map(|n| Origin::of(&head(&n.to_string(), None), sample));
            origins.filter(|origin| origin.context().sampled).count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 10_000));
        assert!((900..1100).contains(&sampled(0.1)), "{}", sampled(0.1));
    }
}
