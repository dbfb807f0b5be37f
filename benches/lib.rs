//! A crate with benches only: `cargo bench -p smoq-benches`. Its dependencies are not built by any other
//! command.
