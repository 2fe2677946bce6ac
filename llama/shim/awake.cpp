// Keeps a core awake between the frames of a chain. A core that has nothing to do is halted, and in a virtual machine to wake
// it again costs 50 to 100 us, several times a token: more than the network. So a thread of the class that runs only where
// nobody else wants to spins until a deadline. No lock is taken: who holds one at that class could keep it for seconds.
#include "shim.h"

#ifdef __linux__
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace {
std::atomic<int64_t>  deadline{ 0 }; // of the steady clock, in ns
std::atomic<uint32_t> calls{ 0 };    // a futex: the spinner sleeps until it moves

int64_t now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void futex(int op, uint32_t value) {
    static_assert(sizeof(calls) == sizeof(uint32_t), "a futex is a plain number");
    syscall(SYS_futex, reinterpret_cast<uint32_t *>(&calls), op, value, nullptr, nullptr, 0);
}

void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb"); // yield is no pause on most of them
#endif
}

void * spin(void *) {
    pthread_setname_np(pthread_self(), "centram-awake");
    const sched_param none{};
    if (sched_setscheduler(0, SCHED_IDLE, &none) != 0) {
        return nullptr; // at a higher class it would take the time of those who compute
    }
    for (;;) {
        const uint32_t seen = calls.load();
        if (now() >= deadline.load()) {
            futex(FUTEX_WAIT_PRIVATE, seen); // not if there was a call since
            continue;
        }
        for (int i = 0; i < 32; i++) {
            relax();
        }
    }
}

// Starts the spinner, which no signal of the process is to interrupt, and which nobody joins.
bool start() {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t  thread;
    const bool started = pthread_create(&thread, nullptr, spin, nullptr) == 0;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (started) {
        pthread_detach(thread);
    }
    return started;
}
} // namespace

void cen_awake(int64_t ns) {
    static const bool started = start();
    if (!started) {
        return;
    }
    const int64_t until = now() + ns;
    int64_t       old   = deadline.load();
    while (old < until && !deadline.compare_exchange_weak(old, until)) {
    }
    calls++;
    futex(FUTEX_WAKE_PRIVATE, 1);
}
#else
void cen_awake(int64_t) {}
#endif
