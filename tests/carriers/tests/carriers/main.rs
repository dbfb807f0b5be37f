//! Sessions of smoq-web-transport on published transports, on loopback.

mod blocking;
mod browsers;
mod carriers;
mod crowd;
mod ends;
#[allow(dead_code, reason = "not every carrier can run every test")]
#[path = "../../../../adapters/quinn/tests/udp/model.rs"]
mod model;
mod table;
