// What ggml hands to each thread that computes a node.
#pragma once

#include <cstddef>

// As in ggml-cpu-impl.h, which C++ cannot read.
struct ggml_compute_params {
    int                      ith, nth;
    size_t                   wsize;
    void *                   wdata;
    struct ggml_threadpool * threadpool;
    bool                     use_ref;
};
