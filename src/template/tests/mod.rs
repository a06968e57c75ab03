//! What templates and expressions promise, over the room's public face.

mod bounds;
mod language;
mod pieces;
mod places;
