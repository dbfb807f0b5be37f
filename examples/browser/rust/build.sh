#!/usr/bin/env bash
# Builds the page into dist/: the client for wasm32 with the compiler of install.sh, and its JavaScript with the usual one.
set -euo pipefail
cd "$(dirname "$0")"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(cd ../../.. && pwd)/target}
# Debian's compiler comes without a linker for wasm32. The usual toolchain has one.
linker=$(find "$(rustc --print sysroot)" -name rust-lld -type f -print -quit)
RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$linker \
    RUSTFLAGS="--cfg=web_sys_unstable_apis -Dwarnings" \
    /usr/bin/cargo build --locked --release --target wasm32-unknown-unknown -Zbuild-std=std,panic_abort
cargo run --quiet --locked -p smoq-browser-glue -- \
    "$CARGO_TARGET_DIR/wasm32-unknown-unknown/release/client.wasm" dist
cp index.html dist/
