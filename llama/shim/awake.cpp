// Keeps a core awake between the frames of a chain. A core that has nothing to do is halted, and to wake it again takes tens
// of microseconds in a virtual machine, several times a token. So a thread of the class that runs only where nobody else
// wants to spins until a deadline. No lock is taken: who holds one at that class could keep it for seconds.
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
constexpr int64_t lost  = 1000 * 1000;               // ns without the core after which someone else works there
constexpr int64_t yield = 10LL * 1000 * 1000 * 1000; // ns for which the core is then left to them

std::atomic<int64_t>  deadline{ 0 }; // of the steady clock, in ns
std::atomic<int64_t>  resume{ 0 };   // when to try again
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
    for (int64_t before = now();;) {
        const uint32_t seen = calls.load();
        if (before >= deadline.load() || before < resume.load()) {
            futex(FUTEX_WAIT_PRIVATE, seen); // not if there was a call since
            before = now();
            continue;
        }
        for (int i = 0; i < 32; i++) {
            relax();
        }
        // What we take counts against the share of our group (a service, a session), so that where others work too our
        // own threads would wait for the core that they are kept awake for. It is awake anyway.
        const int64_t t = now();
        if (t - before > lost && t < deadline.load() && calls.load() == seen) {
            resume = t + yield;
        }
        before = t;
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

bool cen_awake(int64_t ns) {
    static const bool started = start();
    if (!started) {
        return false;
    }
    const int64_t t = now();
    calls++;
    if (ns <= 0) {
        deadline = 0; // the spinner sleeps when it next has a core
        return true;
    }
    if (t < resume.load()) {
        return false;
    }
    int64_t old = deadline.load();
    while (old < t + ns && !deadline.compare_exchange_weak(old, t + ns)) {
    }
    calls++; // again, since the spinner may have looked between the two
    futex(FUTEX_WAKE_PRIVATE, 1);
    return true;
}
#else
bool cen_awake(int64_t) { return false; }
#endif
