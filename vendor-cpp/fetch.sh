#!/usr/bin/env bash
# Prints the folder that holds the pinned llama.cpp source, bringing it into the cache first if it is not there.
# LLAMA_CPP_DIR: use this folder instead and check nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/VERSION"
. "$here/cache.sh"

if [ -n "${LLAMA_CPP_DIR:-}" ]; then
  [ -f "$LLAMA_CPP_DIR/include/llama.h" ] || {
    echo "LLAMA_CPP_DIR=$LLAMA_CPP_DIR holds no include/llama.h. Point it at a llama.cpp $LLAMA_TAG checkout, or unset it." >&2
    exit 1
  }
  cd "$LLAMA_CPP_DIR" && pwd
  exit 0
fi

src="$CENTRAM_CACHE/src/llama.cpp-$LLAMA_TAG-${LLAMA_BUNDLE_COMMIT:0:12}"
if [ -f "$src/.complete" ]; then
  echo "$src"
  exit 0
fi
mkdir -p "$CENTRAM_CACHE/src"
work=$(mktemp -d "$CENTRAM_CACHE/src/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

from_npm() {
  command -v npm >/dev/null || { echo "npm is not installed" >&2; return 1; }
  echo "Fetching llama.cpp $LLAMA_TAG from the npm package $LLAMA_NPM ..." >&2
  local tarball got
  tarball=$(cd "$work" && npm pack --silent "$LLAMA_NPM") || return 1
  got=$(openssl dgst -sha512 -binary "$work/$tarball" | base64 -w0 2>/dev/null || openssl dgst -sha512 -binary "$work/$tarball" | base64)
  if [ "$got" != "$LLAMA_NPM_SHA512" ]; then
    echo "$LLAMA_NPM has sha512 $got, but vendor-cpp/VERSION pins $LLAMA_NPM_SHA512. It was not used." >&2
    exit 1 # a wrong hash is no reason to try another road quietly
  fi
  tar -xzf "$work/$tarball" -C "$work" package/llama/gitRelease.bundle
  git -c advice.detachedHead=false clone --quiet "$work/package/llama/gitRelease.bundle" "$work/tree" >&2 || return 1
  [ "$(git -C "$work/tree" rev-parse HEAD)" = "$LLAMA_BUNDLE_COMMIT" ] || { echo "the bundle is not commit $LLAMA_BUNDLE_COMMIT" >&2; return 1; }
}

from_git() {
  echo "Fetching llama.cpp $LLAMA_TAG from $LLAMA_GIT ..." >&2
  rm -rf "$work/tree"
  git -c advice.detachedHead=false clone --quiet --depth 1 --branch "$LLAMA_TAG" "$LLAMA_GIT" "$work/tree" >&2
}

from_npm || from_git || {
  echo "llama.cpp $LLAMA_TAG could be brought neither from npm nor from git. Check the network, or set LLAMA_CPP_DIR to a checkout." >&2
  exit 1
}
touch "$work/tree/.complete"
rm -rf "$src"
mv "$work/tree" "$src"
echo "$src"
