//! Any operations of applications, in any order, over any link and in every version.

use proptest::collection::vec;
use proptest::prelude::*;

#[path = "../fuzz/src/session_ops.rs"]
mod session_ops;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn readers_receive_what_was_written(shape: [u8; 3], ops in vec(any::<[u8; 3]>(), 0..150)) {
        session_ops::run(&[&shape[..], ops.as_flattened()].concat());
    }
}
