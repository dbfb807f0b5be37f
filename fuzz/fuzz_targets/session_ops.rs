#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| smoq_fuzz::session_ops(data));
