#!/usr/bin/env bash
# Builds llama.cpp for one backend and points build/native at the result, or what $NATIVE names.
#   vendor-cpp/build.sh cpu|cuda|metal|vulkan [TOOL ...]     TOOL: llama-completion, llama-bench, llama-server
# The result lives in the cache under a key of everything that shapes it: pin, flags, backend, compiler, processor.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
. "$here/VERSION"
. "$here/cache.sh"
backend=${1:?usage: build.sh cpu|cuda|metal|vulkan [TOOL ...]}
shift

need() { # need PROGRAM WHAT-TO-DO
  command -v "$1" >/dev/null || { echo "$1 is missing: $2" >&2; exit 1; }
}
need cmake "run 'make deps'"
need ninja "run 'make deps'"
case $backend in
  cuda) need nvcc "make cuda needs NVIDIA's CUDA toolkit 12 or newer. Install it (on Debian: apt-get install nvidia-cuda-toolkit, or NVIDIA's own package) and put nvcc on PATH. 'make' builds for the processor alone." ;;
  metal) [ "$(uname -s)" = Darwin ] || { echo "make metal works on macOS only; this is $(uname -s). 'make' builds for the processor." >&2; exit 1; } ;;
  vulkan) need glslc "make vulkan needs the Vulkan headers and the glslc compiler (on Debian: apt-get install libvulkan-dev glslc)." ;;
esac

src=$("$here/fetch.sh")
processor() { # a native build must not be taken from a cache that another processor filled
  uname -sm
  grep -m1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null || sysctl -n machdep.cpu.brand_string 2>/dev/null || true
}
hash() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-16; }
key=$({ cat "$here/VERSION" "$here/CMakeLists.txt"; echo "$backend ${CMAKE_ARGS:-}"; processor; "${CXX:-c++}" --version | head -1
  [ -z "${LLAMA_CPP_DIR:-}" ] || echo "$src"; } | hash)
out="$CENTRAM_CACHE/native/$backend-$key"

mkdir -p "$out"
exec 9>"$out/lock"
if command -v flock >/dev/null; then flock 9; fi # two clones may build at once; the second waits and links

targets=()
[ -f "$out/complete" ] && [ -z "${LLAMA_CPP_DIR:-}" ] || targets+=(centram-libs)
for tool in "$@"; do
  [ -x "$out/bin/$tool" ] && [ -z "${LLAMA_CPP_DIR:-}" ] || targets+=("$tool")
done
if [ ${#targets[@]} -gt 0 ]; then
  echo "Building llama.cpp $LLAMA_TAG for $backend (${targets[*]}), once for this machine: minutes on two cores." >&2
  # The object tree stays: a tool asked for later (make bench) builds on what is there.
  # CMake ties it to the folder of its CMakeLists.txt, so that is a copy in the cache: another clone may go on from here.
  mkdir -p "$out/project"
  cmp -s "$here/CMakeLists.txt" "$out/project/CMakeLists.txt" || cp "$here/CMakeLists.txt" "$out/project/"
  grep -qsF "CMAKE_HOME_DIRECTORY:INTERNAL=$out/project" "$out/obj/CMakeCache.txt" || rm -rf "$out/obj/CMakeCache.txt" "$out/obj/CMakeFiles"
  # shellcheck disable=SC2086  # CMAKE_ARGS is a list
  cmake -S "$out/project" -B "$out/obj" -G Ninja -DCMAKE_BUILD_TYPE=Release -DLLAMA_CPP_DIR="$src" -DBACKEND="$backend" \
    ${CMAKE_ARGS:-} >"$out/cmake.log" 2>&1 || { tail -30 "$out/cmake.log" >&2; echo "CMake failed; the whole log is $out/cmake.log" >&2; exit 1; }
  cmake --build "$out/obj" --target "${targets[@]}" >"$out/build.log" 2>&1 || { grep -m5 -A8 -E 'error|FAILED' "$out/build.log" >&2; echo "The build failed; the whole log is $out/build.log" >&2; exit 1; }
fi

mkdir -p "$out/lib" "$out/bin"
while read -r archive; do
  [ -z "$archive" ] || ln -sf "$archive" "$out/lib/$(basename "$archive")"
done <"$out/obj/archives.txt"
for tool in "$@"; do
  ln -sf "$(find "$out/obj" -name "$tool" -type f -perm -u+x | head -1)" "$out/bin/$tool"
done
ln -sfn "$src" "$out/src"
touch "$out/complete"

native=${NATIVE:-$root/build/native}
mkdir -p "$(dirname "$native")"
ln -sfn "$out" "$native"
echo "$backend" >"$out/backend"
# Go does not look into archives. It does look at this, and links and tests anew when another llama.cpp is there.
mark="// Written by vendor-cpp/build.sh: $out"
if [ -z "${NATIVE:-}" ] && [ "$(cat "$root/llama/shim/native.h" 2>/dev/null)" != "$mark" ]; then
  echo "$mark" >"$root/llama/shim/native.h"
fi
