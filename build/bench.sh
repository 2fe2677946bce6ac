#!/usr/bin/env bash
# Builds what is measured and what it is measured against, then runs build/bench. Arguments go to it (see -help).
set -euo pipefail
cd "$(dirname "$0")/.."
build/deps.sh
vendor-cpp/build.sh "${BACKEND:-cpu}" llama-bench llama-server
# llama.cpp's own way to use another machine is not in what we link, so it is built apart.
CMAKE_ARGS="${CMAKE_ARGS:-} -DGGML_RPC=ON" NATIVE=build/native-rpc vendor-cpp/build.sh cpu llama-bench ggml-rpc-server
make --no-print-directory build
go run ./build/bench "$@"
