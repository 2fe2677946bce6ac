#!/usr/bin/env bash
# What `make test` runs: everything that has to pass before a change may land. CI runs the same.
#   SHORT=1   leaves out what makes gigabytes of weights, takes a minute or starts a browser
#   SOAK=1h   is how long machines leave and come back (1m)
set -euo pipefail
cd "$(dirname "$0")/.."
build/deps.sh test
step() { printf '\n== %s\n' "$*"; }

step "llama.cpp, and its own program to compare tokens with"
vendor-cpp/build.sh "${BACKEND:-cpu}" llama-completion
step "web apps"
build/web.sh
step "lint"
build/lint.sh
step "Go tests"
CENTRAM_REFERENCE=1 go test ${SHORT:+-short} -timeout 20m ./...
step "Go tests of what runs many goroutines, under the race detector"
go test -race -short -timeout 20m ./engine ./hyperlink/... ./server/... ./p2p/... ./lora/job ./models/download
step "hostile bytes of peers, ten seconds a target"
build/fuzz.sh 10s p2p
step "web tests"
. build/node.sh
(cd web && npm test --silent)
if [ -z "${SHORT:-}" ]; then
  step "sixteen sessions over machines that leave and come back"
  go test ./hyperlink -run 'TestSoak$' -soak "${SOAK:-1m}" -timeout 30m
  step "the page in a real browser"
  build/e2e.sh
fi
echo
echo "All tests passed."
