// sleep resolves after ms, or at once when signal aborts.
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal?.aborted) done();
    else signal?.addEventListener('abort', done);
  });
}

// backoff is how long to wait before attempt n, in ms: 0.5 s, then twice as long each time, 8 s at most.
export function backoff(attempt: number): number {
  return Math.min(8000, 500 * 2 ** attempt);
}
