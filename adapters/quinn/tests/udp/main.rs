//! Over real UDP on loopback.

mod datagrams;
mod ends;
mod model;
mod requests;
mod wire;
