# Where built libraries and fetched sources are kept: outside the checkout, so that a second clone links in seconds.
CENTRAM_CACHE=${CENTRAM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/centram}
