//! posthaste makes HTTP delivery somebody else's problem: local processes write events to a Unix socket,
//! posthaste puts them on disk, answers, and a scheduler sees to it that every endpoint that asked for
//! them gets them, or that a person finds them in the dead letters with the reason.
//!
//! Data walks forward through the rooms in this order; a test over the source keeps who may import whom:
//! [`template`] (the language of the configuration) · [`domain`] (pure nouns and rules) · [`config`] (what the operator wrote, checked) · [`ingest`] (bytes
//! from producers to accepted events) · [`store`] (what survives a crash) · [`scheduler`] (pure: who goes
//! next) · [`delivery`] (one try, from record to outcome) · [`daemon`] (puts the rooms together) ·
//! [`control`] (the operator's door) · [`dashboard`] (its web page) · [`cli`] (one verb, one file) · [`observe`] (logs and their names) ·
//! [`trace`] (what trace viewers are told).

pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dashboard;
pub mod delivery;
pub mod domain;
pub mod ingest;
pub mod observe;
pub mod scheduler;
pub mod store;
pub mod template;
pub mod trace;
