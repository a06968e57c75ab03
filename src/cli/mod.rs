//! The command line.

pub mod check;
pub mod demo;
pub mod receive;
pub mod run;
pub mod send;
