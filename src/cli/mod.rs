//! (room)

pub mod check;
