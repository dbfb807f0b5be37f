#!/usr/bin/env bash
# Installs Debian's compiler with the target wasm32 and the source of the standard library, if it is missing. It needs root.
# Debian puts them into /usr/bin, which rustup's directory precedes: the toolchain in use stays.
set -euo pipefail
[ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/src/rust/library ] && exit
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src >/dev/null
