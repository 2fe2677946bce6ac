import { describe, expect, it } from 'vitest';
import { ApiError } from '../../shared/api';
import type { Message } from '../../shared/types';
import { countPoints, follow, Text, type Phase } from './stream';

const whole = 'Größe 😀👩‍👩‍👧 – fin.';
const points = [...whole];

function finished(content: string): Message {
  return { id: 'm', parent: '', role: 'assistant', content, state: 'done', created_at: '' };
}

function body(...events: [string, unknown][]): ReadableStream<Uint8Array> {
  const text = events.map(([event, data]) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`).join('');
  return new Response(text).body!;
}

function delta(from: number, to = points.length): [string, unknown] {
  return ['delta', { from, text: points.slice(from, to).join('') }];
}

// run follows with one connection per entry, and returns what was seen.
async function run(start: string, ...connections: (ReadableStream<Uint8Array> | Error)[]) {
  const seen = { asked: [] as number[], phases: [] as Phase[], texts: [] as string[], done: '', lost: '' };
  const open = async (from: number) => {
    seen.asked.push(from);
    const next = connections.shift();
    if (!next || next instanceof Error) throw next ?? new Error('no more connections');
    return next;
  };
  await follow(start, open, {
    phase: (p) => seen.phases.push(p),
    text: (t) => seen.texts.push(t),
    done: (m) => (seen.done = m.content),
    lost: (e) => (seen.lost = e.message),
  }, new AbortController().signal);
  return seen;
}

describe('following an answer', () => {
  it('counts code points and not UTF-16 units', () => {
    expect(countPoints(whole)).toBe(points.length);
    expect(countPoints('')).toBe(0);
    expect(countPoints('\ud800')).toBe(1);
  });

  it('takes only what is new of every overlap', () => {
    for (let have = 0; have <= points.length; have++) {
      for (let from = 0; from <= have; from++) {
        const text = new Text(points.slice(0, have).join(''));
        expect(text.add({ from, text: points.slice(from).join('') })).toBe(true);
        expect(text.value).toBe(whole);
        expect(text.points).toBe(points.length);
      }
    }
  });

  it('refuses a gap', () => expect(new Text('ab').add({ from: 3, text: 'd' })).toBe(false));

  it('shows phases, text and the end', async () => {
    const seen = await run('', body(
      ['queued', {}],
      ['loading', { model: 'm', progress: 0.5 }],
      ['progress', { total: 10, processed: 5, cached: 0 }],
      delta(0, 4),
      delta(4),
      ['done', finished(whole)],
    ));
    expect(seen.phases.map((p) => p.kind)).toEqual(['queued', 'loading', 'reading']);
    expect(seen.texts.at(-1)).toBe(whole);
    expect(seen.done).toBe(whole);
  });

  it('goes on where a connection broke, at every place', async () => {
    for (const cut of [1, 7, 8, 9]) {
      const seen = await run('', body(delta(0, cut)), body(delta(cut), ['done', finished(whole)]));
      expect(seen.asked).toEqual([0, cut]);
      expect(seen.texts.at(-1)).toBe(whole);
    }
  });

  it('begins with the text that the page has', async () => {
    const seen = await run(points.slice(0, 7).join(''), body(delta(5), ['done', finished(whole)]));
    expect(seen.asked).toEqual([7]);
    expect(seen.texts).toEqual([whole]);
  });

  it('asks again for what is missing', async () => {
    const seen = await run('', body(delta(0, 2), delta(4)), body(delta(2), ['done', finished(whole)]));
    expect(seen.asked).toEqual([0, 2]);
    expect(seen.texts.at(-1)).toBe(whole);
  });

  it('tries again when the daemon does not answer', async () => {
    const seen = await run('', new Error('refused'), body(delta(0), ['done', finished(whole)]));
    expect(seen.done).toBe(whole);
  });

  it('ends when the daemon has no such answer', async () => {
    expect((await run('', new ApiError(404, 'not_found', 'gone'))).lost).toBe('gone');
  });
});
