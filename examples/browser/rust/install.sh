#!/usr/bin/env bash
# Installs Debian's compiler for the web and the source of the standard library, if they are missing. It needs root.
# They go to /usr/bin: a toolchain of rustup precedes them in PATH and stays in use, but Debian's usual `rustc` is replaced.
set -euo pipefail
dpkg -s rustc-web cargo-web rust-web-src >/dev/null 2>&1 && exit
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src >/dev/null
