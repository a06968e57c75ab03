//! What templates and expressions promise, over the room's public face.

mod language;
mod places;
