//! The nouns of posthaste and the rules between them. Pure: no clock, no tokio, no store, no socket.
//!
//! Read in this order: [`time`] (a timestamp that has no `now()`), [`event`], [`endpoint`], [`network`], [`filter`] and [`route`]
//! (an event and the endpoints give the deliveries owed), [`outcome`] (how one try ended), [`backoff`]
//! (when to try again), [`delivery`] (the durable state machine that puts the last two together), [`company`] (the
//! same for a batch that failed as one) and [`age`] (how old what waits is). Beside them stand [`access`] (who may
//! send what, and how fast: [`rate`]), [`people`] (users and groups by number) and [`names`] (of values, read both ways).

pub mod access;
pub mod age;
pub mod backoff;
pub mod company;
pub mod delivery;
pub mod endpoint;
pub mod event;
pub mod filter;
pub mod kept;
pub mod names;
pub mod network;
pub mod outcome;
pub mod people;
pub mod rate;
pub mod route;
pub mod secret;
pub mod several;
pub mod time;
pub mod url;
