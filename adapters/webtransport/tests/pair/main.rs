//! Two ends, or one end and bytes, without a network.

mod ends;
mod hostile;
mod rules;
mod sessions;
