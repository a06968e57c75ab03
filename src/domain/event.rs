//! An event: what a producer said happened, in the CloudEvents 1.0 JSON format.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// What posthaste itself needs to know of an event, beside its bytes. Kept with the event in the store
/// (so its layout is versioned there), read on every delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHead {
    /// CloudEvents `id`; unique together with `source`. Sent as `webhook-id`.
    pub id: Box<str>,
    /// CloudEvents `source`.
    pub source: Box<str>,
    /// CloudEvents `type`, 1 to 255 bytes.
    pub kind: Box<str>,
    /// When the daemon accepted it.
    pub accepted: Timestamp,
    /// Not to be delivered before this instant (`delay`, `deliverat`); `None`: at once.
    pub deliver_at: Option<Timestamp>,
    /// Not to be delivered after this instant (`expirytime`).
    pub expires: Option<Timestamp>,
    /// Ordering key (`partitionkey`).
    pub partition_key: Option<Box<str>>,
    /// Tenant the event belongs to (`tenant`).
    pub tenant: Option<Box<str>>,
    /// W3C trace context (`traceparent`), passed on as a header.
    pub traceparent: Option<Box<str>>,
    /// Uid of the local process that sent it, as the kernel tells it.
    pub sender_uid: Option<u32>,
}

impl EventHead {
    /// The head of an event of which its producer said no more than it has to; due at once, and for ever.
    #[must_use]
    pub fn new(
        id: impl Into<Box<str>>,
        source: impl Into<Box<str>>,
        kind: impl Into<Box<str>>,
        accepted: Timestamp,
    ) -> Self {
        Self {
            id: id.into(),
            source: source.into(),
            kind: kind.into(),
            accepted,
            deliver_at: None,
            expires: None,
            partition_key: None,
            tenant: None,
            traceparent: None,
            sender_uid: None,
        }
    }
}

/// One event as it is accepted and kept: its head, and the whole CloudEvents JSON object, defaults filled
/// in, which is also the default request body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What posthaste reads of it.
    pub head: EventHead,
    /// The event as one CloudEvents JSON object, UTF-8.
    pub json: Bytes,
}

/// The place of an event in the queue: given by the store, rising in the order of acceptance, never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);
