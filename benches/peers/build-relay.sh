#!/usr/bin/env bash
# Builds the moq-relay that the benchmark compares our relay with, from the crate in the registry:
#
#   benches/peers/build-relay.sh              features noq and websocket
#   benches/peers/build-relay.sh io-uring     with io-uring as well, as a second binary
#
# The last line printed is the path of the binary, for `--relay`. Without `--relay` the benchmark looks for the
# first one where this script puts it. A build takes several minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=0.17.10
features=noq,websocket
variant=
case ${1:-} in
    '') ;;
    io-uring) features+=,io-uring variant=-io-uring ;;
    *) echo "usage: $0 [io-uring]" >&2 && exit 2 ;;
esac

target=${CARGO_TARGET_DIR:-$PWD/target}
dir=$target/peers
mkdir -p "$dir"
binary=$dir/moq-relay-$version$variant

# `cargo info` downloads the crate to the registry's cache and checks its hash. It runs outside of this workspace,
# so that it looks at the registry only.
(cd "$dir" && cargo info --quiet "moq-relay@$version" >/dev/null)
crate=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/cache" -name "moq-relay-$version.crate" -print -quit)
source=$dir/source/moq-relay-$version
rm -rf "$source"
mkdir -p "$dir/source"
tar -xzf "$crate" -C "$dir/source"

cd "$source"
# It becomes a workspace of its own. Its lock file names a version of webpki-roots that not every registry serves.
grep -q '^\[workspace\]' Cargo.toml || printf '\n[workspace]\n' >>Cargo.toml
cargo update --quiet -p webpki-roots --precise 1.0.10
CARGO_TARGET_DIR=$dir/build cargo build --release --no-default-features --features "$features" --bin moq-relay
cp "$dir/build/release/moq-relay" "$binary"
echo "$binary"
