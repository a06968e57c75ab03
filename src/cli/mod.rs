//! (room)
pub mod send;
