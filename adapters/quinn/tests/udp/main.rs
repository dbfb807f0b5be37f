//! Over real UDP on loopback.

mod ends;
mod model;
mod wire;
