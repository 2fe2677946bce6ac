// Server-sent events over fetch, because EventSource sends no Authorization header.

export interface ServerEvent {
  event: string;
  data: string;
}

// EventParser takes text as it arrives, cut anywhere, and returns the events that are complete.
export class EventParser {
  #line = '';
  #event = '';
  #data: string[] = [];
  #afterReturn = false;

  push(chunk: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    if (this.#afterReturn && chunk.startsWith('\n')) chunk = chunk.slice(1);
    if (chunk) this.#afterReturn = chunk.endsWith('\r');
    const lines = (this.#line + chunk).split(/\r\n|\r|\n/);
    this.#line = lines.pop() ?? '';
    for (const line of lines) {
      if (line) this.#field(line);
      else this.#dispatch(events);
    }
    return events;
  }

  #field(line: string): void {
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (name === 'event') this.#event = value;
    if (name === 'data') this.#data.push(value);
  }

  #dispatch(events: ServerEvent[]): void {
    if (this.#data.length) events.push({ event: this.#event || 'message', data: this.#data.join('\n') });
    this.#event = '';
    this.#data = [];
  }
}

// The daemon pings every 15 s, so this long a silence means that the connection is dead without saying so.
const silence = 45_000;

// readEvents yields the events of a stream until it ends. It throws if the stream breaks or falls silent.
export async function* readEvents(body: ReadableStream<Uint8Array>, patience = silence): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await within(reader.read(), patience);
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`silent for ${ms} ms`)), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
