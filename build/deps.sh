#!/usr/bin/env bash
# Installs what a fresh Debian or Ubuntu lacks to build Centram. Where it may not, it prints the one command to run.
#   build/deps.sh          what building needs
#   build/deps.sh test     and what the tests need: a browser and the formatter of the C++
set -euo pipefail

missing=()
want() { command -v "$1" >/dev/null || missing+=("$2"); } # want PROGRAM DEBIAN-PACKAGE
want cmake cmake
want ninja ninja-build
want c++ g++
want git git
want openssl openssl
want node nodejs
want npm npm
if [ "${1:-}" = test ]; then
  want clang-format clang-format
  command -v chromium >/dev/null || command -v google-chrome >/dev/null || [ -n "${CHROMIUM:-}" ] || missing+=(chromium)
fi
if ! command -v go >/dev/null; then
  echo "Go is missing. Install Go 1.26 or newer from https://go.dev/dl/ and put it on PATH." >&2
  exit 1
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "Missing: ${missing[*]} (Debian's package names). Install them with your system's package manager and try again." >&2
  exit 1
fi
if [ "$(id -u)" = 0 ]; then
  sudo=()
elif sudo -n true 2>/dev/null; then
  sudo=(sudo)
else
  echo "Missing: ${missing[*]}. Run this, then try again:" >&2
  echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "Installing ${missing[*]} ..." >&2
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
