#!/usr/bin/env bash
# Runs every fuzz target for a while: build/fuzz.sh [20s [FOLDER]]
set -euo pipefail
cd "$(dirname "$0")/.."
grep -rlE '^func Fuzz' --include='*_test.go' "${2:-.}" | sort | while read -r file; do
  for target in $(grep -oE '^func Fuzz[A-Za-z0-9_]*' "$file" | cut -c6-); do
    echo "== $(dirname "$file") $target"
    # What an input covers depends on the scheduler where there are goroutines: making it small would go on for ever.
    go test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "${1:-20s}" -fuzzminimizetime 10x
  done
done
