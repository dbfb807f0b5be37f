//! What both adapters must have in common.

#[test]
fn the_defaults_are_alike() {
    let quinn = format!("{:?}", smoq_quinn::config::transport());
    let blocking = format!("{:?}", smoq_blocking::config::transport());
    assert_eq!(quinn, blocking);
    assert!(quinn.contains("max_concurrent_uni_streams: 512"), "{quinn}");
}
