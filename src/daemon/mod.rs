//! (room)

pub mod activation;
pub mod notify;
