//! From a producer's bytes to accepted events.
//!
//! Read in this order: [`lines`] (bytes to lines, pure) · [`frame`] (a line to events, a control line or a
//! refusal, pure) · [`attributes`] (what the members of an event may be, pure) · [`sender`] (who sends) ·
//! [`build`] (an event with its defaults filled in) · [`intake`] (what the sessions share: routes, limits, counters) ·
//! [`turn`] (the lines of one read, their one commit and their answers) · [`together`] (the turns of one thread's sessions
//! as one request to the store) · [`answer`] (what is written back) ·
//! [`wire`] (the bytes of a connection) · [`session`] (one connection) · [`listener`] (who may connect) · [`spool`] (what was left while nobody listened) ·
//! [`rewrite`] (an event with other attributes). Beside them stands [`http`]: the same events as requests carry them,
//! pure.
//!
//! This room refuses to know how the store keeps events, when they are delivered, and what an endpoint's
//! request looks like.

pub mod answer;
pub mod attributes;
pub mod build;
pub mod frame;
pub mod http;
pub mod intake;
pub mod lines;
pub mod listener;
pub mod rewrite;
pub mod sender;
pub mod session;
pub mod spool;
pub mod together;
pub mod turn;
pub mod wire;
