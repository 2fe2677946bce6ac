// What becomes of a model whose file goes bad while it is mapped into memory.
//
// A page of a mapped file that cannot be read, because the file was cut short or its disk has failed or was pulled out, is a
// SIGBUS for who touches it, and the end of the process with all that other models are answering. So ranges of models are
// watched: the first such fault puts zeros in place of the whole range and marks it as lost. What is computed then is worth
// nothing, and who computed it looks at the mark. Faults anywhere else go to whom they went before, which is Go's runtime.
#include "shim.h"

#include <atomic>
#include <csignal>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "ggml.h"

#include <sys/mman.h>

// Of llama.cpp, which keeps it for its own tests.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

namespace {

// A range is free while its end is 0. The handler reads what may change at the same time, so all is atomic.
struct range {
    std::atomic<uintptr_t> begin{ 0 };
    std::atomic<uintptr_t> end{ 0 };
    std::atomic<bool>      lost{ false };
};

constexpr int32_t n_ranges = 1024;
range             ranges[n_ranges];
std::mutex        watching; // held to take a range
struct sigaction  before;

void on_bus(int signal, siginfo_t * info, void * context) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(info->si_addr);
    for (range & r : ranges) {
        const uintptr_t begin = r.begin.load();
        const uintptr_t end   = r.end.load();
        if (at < begin || at >= end) {
            continue;
        }
        if (mmap(reinterpret_cast<void *>(begin), end - begin, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE,
                 -1, 0) != MAP_FAILED) {
            r.lost.store(true);
            return;
        }
    }
    if ((before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(signal, info, context);
    } else {
        sigaction(SIGBUS, &before, nullptr); // which ends the process when the fault comes again
    }
}

bool install() {
    struct sigaction action = {};
    action.sa_sigaction     = on_bus;
    action.sa_flags         = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigfillset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &before) == 0;
}

bool holds(const llama_model * model, uintptr_t begin, uintptr_t end) {
    for (const auto & t : llama_internal_get_tensor_map(model)) {
        const uintptr_t data = reinterpret_cast<uintptr_t>(t.second->data);
        if (data >= begin && data < end) {
            return true;
        }
    }
    return false;
}

} // namespace

int32_t cen_watch(const llama_model * model, uintptr_t begin, uintptr_t end) {
    static const bool installed = install();
    if (!installed || begin >= end || !holds(model, begin, end)) {
        return -1;
    }
    const std::lock_guard<std::mutex> lock(watching);
    for (int32_t i = 0; i < n_ranges; i++) {
        range & r = ranges[i];
        if (r.end.load() == 0) {
            r.lost.store(false);
            r.begin.store(begin);
            r.end.store(end);
            return i;
        }
    }
    return -1;
}

bool cen_lost(int32_t id) { return ranges[id].lost.load(); }

void cen_unwatch(int32_t id) {
    const std::lock_guard<std::mutex> lock(watching);
    ranges[id].end.store(0);
    ranges[id].begin.store(0);
}
