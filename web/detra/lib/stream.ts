// Follows an answer while the daemon writes it, over as many connections as it takes. Places in the text are counted in
// Unicode code points, as the daemon counts them, so that a text is neither lost nor doubled where a connection broke.
import { ApiError } from '../../shared/api';
import { readEvents, type ServerEvent } from '../../shared/sse';
import type { Message } from '../../shared/types';
import { backoff, sleep } from '../../shared/wait';

export type Phase =
  | { kind: 'queued' }
  | { kind: 'loading'; model: string; progress: number }
  | { kind: 'reading'; total: number; processed: number; cached: number };

export interface Follower {
  phase(phase: Phase): void;
  text(text: string): void;
  done(message: Message): void;
  lost(error: ApiError): void; // the daemon has no such answer any more
}

export type Open = (from: number, signal: AbortSignal) => Promise<ReadableStream<Uint8Array>>;

// Text grows by deltas that say where they begin.
export class Text {
  #points: number;

  constructor(public value: string) {
    this.#points = countPoints(value);
  }

  get points(): number {
    return this.#points;
  }

  // add takes what is new of a delta. It returns false if something before the delta is missing.
  add(delta: { from: number; text: string }): boolean {
    if (delta.from > this.#points) return false;
    const fresh = skipPoints(delta.text, this.#points - delta.from);
    this.value += fresh;
    this.#points += countPoints(fresh);
    return true;
  }
}

export function countPoints(text: string): number {
  let points = 0;
  for (let i = 0; i < text.length; points++) i += isPair(text, i) ? 2 : 1;
  return points;
}

function skipPoints(text: string, n: number): string {
  let i = 0;
  for (; n > 0 && i < text.length; n--) i += isPair(text, i) ? 2 : 1;
  return text.slice(i);
}

function isPair(text: string, i: number): boolean {
  return (text.codePointAt(i) ?? 0) > 0xffff;
}

// follow returns when the answer is finished, lost, or signal aborts.
export async function follow(start: string, open: Open, follower: Follower, signal: AbortSignal): Promise<void> {
  const text = new Text(start);
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      for await (const event of readEvents(await open(text.points, signal))) {
        attempt = 0;
        if (signal.aborted || take(event, text, follower) === 'finished') return;
      }
    } catch (e) {
      if (signal.aborted) return;
      if (e instanceof ApiError && e.status === 404) return follower.lost(e);
    }
    await sleep(backoff(attempt), signal);
  }
}

// take throws on a gap in the text, and the next connection asks for what is missing.
function take({ event, data }: ServerEvent, text: Text, follower: Follower): 'finished' | 'more' {
  const value = JSON.parse(data);
  switch (event) {
    case 'queued':
      follower.phase({ kind: 'queued' });
      break;
    case 'loading':
      follower.phase({ kind: 'loading', ...value });
      break;
    case 'progress':
      follower.phase({ kind: 'reading', ...value });
      break;
    case 'delta':
      if (!text.add(value)) throw new Error('gap');
      follower.text(text.value);
      break;
    case 'done':
      follower.done(value);
      return 'finished';
  }
  return 'more';
}
