// Whether the daemon answers, and its events while it does.
import { api, onReach } from './api';
import { readEvents } from './sse';
import { backoff, sleep } from './wait';

type Listener = (data: unknown) => void;

class Connection {
  online = $state(true);
  #listeners = new Map<string, Set<Listener>>();
  #wake = () => {};

  // on hears events of one name. `open` is ours: it comes whenever the stream of events begins, as after an outage, when
  // anything may have changed.
  on(event: string, listener: Listener): void {
    const set = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, set.add(listener));
  }

  // start keeps the stream of events open for as long as the page lives.
  async start(): Promise<void> {
    onReach((ok) => (this.online = ok));
    addEventListener('online', () => this.retry());
    for (let attempt = 0; ; attempt++) {
      const abort = new AbortController();
      try {
        const body = await api.events(abort.signal);
        attempt = 0;
        this.#tell('open', undefined);
        for await (const { event, data } of readEvents(body)) this.#tell(event, JSON.parse(data));
      } catch {
        // The banner says so, if it was the network; the loop tries again either way.
      }
      abort.abort();
      const pause = new AbortController();
      this.#wake = () => pause.abort();
      await sleep(backoff(attempt), pause.signal);
    }
  }

  retry(): void {
    this.#wake();
  }

  #tell(event: string, data: unknown): void {
    for (const listener of this.#listeners.get(event) ?? []) listener(data);
  }
}

export const connection = new Connection();
