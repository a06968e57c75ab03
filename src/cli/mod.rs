//! (room)

pub mod receive;
