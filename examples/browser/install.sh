#!/usr/bin/env bash
# Installs Chromium from Debian's packages, if there is none. It needs root.
set -euo pipefail
[ -x /usr/bin/chromium ] && exit
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium >/dev/null
