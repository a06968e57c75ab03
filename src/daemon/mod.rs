//! (room)
pub mod sockets;
