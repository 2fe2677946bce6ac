#!/usr/bin/env bash
# Builds the web apps into server/web/dist, where the Go binary embeds them. Without npm the binary serves a page that
# says so instead.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
dist="$root/server/web/dist"
mkdir -p "$dist"
if ! command -v npm >/dev/null; then
  echo "npm is missing, so the web apps are not built in; run 'make deps' for them." >&2
  exit 0
fi
. "$root/build/node.sh"
cd "$root/web"
if [ ! -d node_modules ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  npm ci --no-audit --no-fund --loglevel=error
fi
npm run --silent build
find "$dist" -mindepth 1 ! -name .keep -delete
cp -R dist/. "$dist/"
touch "$dist/.built"
