# Sourced by what needs Node.js: makes sure that a version which can build the web apps is first on PATH. Debian 12 and
# Ubuntu 24.04 bring an older one; then npm's own package `node` brings a newer one into the cache.
. "$(dirname "${BASH_SOURCE[0]}")/../vendor-cpp/cache.sh"
node_suits() { node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'; }
if ! node_suits; then
  if [ ! -x "$CENTRAM_CACHE/node/node_modules/.bin/node" ]; then
    echo "Node.js $(node --version) is too old for the web apps; fetching 22 into the cache ..." >&2
    npm install --silent --no-audit --no-fund --prefix "$CENTRAM_CACHE/node" node@22.23.3 npm@11.19.1
  fi
  PATH="$CENTRAM_CACHE/node/node_modules/.bin:$PATH"
  node_suits || { echo "The fetched Node.js does not run here. Install Node.js 20.19 or newer and try again." >&2; return 1; }
fi
