#!/usr/bin/env bash
# Style and vetting of Go, C++ and shell, and of the web apps. Exits 1 at the first kind that is not clean.
set -euo pipefail
cd "$(dirname "$0")/.."
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
gofumpt=mvdan.cc/gofumpt@v0.12.0

unformatted=$(go run "$gofumpt" -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "gofumpt would change: $unformatted" >&2; exit 1; }
go vet ./...
go run "$staticcheck" ./...
clang-format --dry-run --Werror llama/*/*.cpp llama/*/*.h
for script in $(git ls-files '*.sh' .ci/run); do bash -n "$script"; done
. build/node.sh
(cd web && npm run --silent lint && npm run --silent check)
