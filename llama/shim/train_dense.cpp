// A quantised matrix as BF16, straight or transposed. ggml can do it in two steps, by way of F32; a third of a training step
// was spent with that. Where the processor multiplies BF16, the product with what comes out here is also faster than one with
// the quantised matrix itself, and rounds less: that would quantise the other side, too.
#include "train_graph.h"

#include "ggml-cpu.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace cen::train {

namespace {

constexpr int64_t side = 64;  // rows of a tile
constexpr int64_t wide = 256; // its columns: a block of every quantised type is as long, or divides it

// To the nearest, and of two as near ones to the even one, as ggml does it. There is no NaN in quantised weights.
uint16_t brain(float x) {
    uint32_t bits = 0;
    std::memcpy(&bits, &x, sizeof(bits));
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

const char * row_of(const ggml_tensor * w, int64_t i) { return static_cast<const char *>(w->data) + i * w->nb[1]; }

void straight(ggml_tensor * dst, int ith, int nth, void * /*unused*/) {
    const ggml_tensor * w       = dst->src[0];
    const auto          decode  = ggml_get_type_traits(w->type)->to_float;
    const int64_t       columns = w->ne[0];
    std::vector<float>  row(columns);
    for (int64_t i = w->ne[1] * ith / nth; i < w->ne[1] * (ith + 1) / nth; i++) {
        decode(row_of(w, i), row.data(), columns);
        auto * to = static_cast<uint16_t *>(dst->data) + i * columns;
        std::transform(row.begin(), row.end(), to, brain);
    }
}

// By tiles that fit into the cache, since one of the two sides is walked through across.
void transposed(ggml_tensor * dst, int ith, int nth, void * /*unused*/) {
    const ggml_tensor *   w      = dst->src[0];
    const auto            decode = ggml_get_type_traits(w->type)->to_float;
    const int64_t         rows = w->ne[1], tiles = (rows + side - 1) / side;
    std::vector<float>    row(wide);
    std::vector<uint16_t> tile(side * wide);
    for (int64_t first = tiles * ith / nth * side; first < std::min(rows, tiles * (ith + 1) / nth * side); first += side) {
        const int64_t high = std::min(side, rows - first);
        for (int64_t left = 0; left < w->ne[0]; left += wide) {
            const int64_t n = std::min(wide, w->ne[0] - left);
            for (int64_t i = 0; i < high; i++) {
                decode(row_of(w, first + i) + ggml_row_size(w->type, left), row.data(), n);
                for (int64_t j = 0; j < n; j++) {
                    tile[j * side + i] = brain(row[j]);
                }
            }
            for (int64_t j = 0; j < n; j++) {
                std::copy_n(&tile[j * side], high, static_cast<uint16_t *>(dst->data) + (left + j) * rows + first);
            }
        }
    }
}

} // namespace

ggml_tensor * Graph::dense(ggml_tensor * w) {
    if (!in.dense) {
        return w;
    }
    return run(ggml_custom_4d(ctx.get(), GGML_TYPE_BF16, w->ne[0], w->ne[1], 1, 1, &w, 1, straight, GGML_N_TASKS_MAX, nullptr));
}

ggml_tensor * Graph::turned(ggml_tensor * w, int64_t first, int64_t n) {
    if (!in.own) {
        return thin(weights(w, first, n));
    }
    ggml_tensor * part = columns(w, first, n);
    return run(ggml_custom_4d(ctx.get(), GGML_TYPE_BF16, n, w->ne[0], 1, 1, &part, 1, transposed, GGML_N_TASKS_MAX, nullptr));
}

} // namespace cen::train
