#!/usr/bin/env bash
# Runs the page's tests in a real Chromium against a real daemon with a tiny model: build/e2e.sh
#   SCREENSHOT=FILE   also writes the README's picture of DETRA
set -euo pipefail
cd "$(dirname "$0")/.."
. build/node.sh
make --no-print-directory build
go run ./build/e2e
