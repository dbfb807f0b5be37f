//! smoq against the published peers and against itself, by both adapters.

use smoq_interop::matrix;

matrix! {
    smoq_quinn_to_net03_in_06: smoq_quinn, net03, "moq-lite-06";
    net03_to_smoq_quinn_in_06: net03, smoq_quinn, "moq-lite-06";
    smoq_quinn_to_lite016_in_04: smoq_quinn, lite016, "moq-lite-04";
    lite016_to_smoq_quinn_in_04: lite016, smoq_quinn, "moq-lite-04";
}
