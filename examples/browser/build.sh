#!/usr/bin/env bash
# Builds the script of the page, with the packages of package-lock.json. It needs Node.js and npm.
set -euo pipefail
cd "$(dirname "$0")"
npm ci --no-audit --no-fund --silent
npx esbuild page.js matrix.js --bundle --format=esm --outdir=dist --log-level=warning
