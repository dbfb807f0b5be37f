//! Sessions of smoq-web-transport on published transports, on loopback.

mod carriers;
mod ends;
#[path = "../../../../adapters/quinn/tests/udp/model.rs"]
mod model;
mod table;
