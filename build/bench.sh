#!/usr/bin/env bash
# Builds what is measured and what it is measured against, then runs build/bench. Arguments go to it (see -help).
set -euo pipefail
cd "$(dirname "$0")/.."
build/deps.sh
vendor-cpp/build.sh "${BACKEND:-cpu}" llama-bench llama-server
make --no-print-directory build
go run ./build/bench "$@"
