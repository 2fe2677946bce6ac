import { describe, expect, it } from 'vitest';
import { EventParser, readEvents, type ServerEvent } from './sse';

const sample =
  ': ping\n\nevent: delta\ndata: {"from":0,"text":"Größe 😀"}\n\nevent: two\r\ndata: a\r\ndata: b\r\n\r\ndata:no space\rid: 7\r\rdata\n\nevent: lost\n\n';
const expected: ServerEvent[] = [
  { event: 'delta', data: '{"from":0,"text":"Größe 😀"}' },
  { event: 'two', data: 'a\nb' },
  { event: 'message', data: 'no space' },
  { event: 'message', data: '' },
];

function bytes(...chunks: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
}

async function collect(body: ReadableStream<Uint8Array>): Promise<ServerEvent[]> {
  const events = [];
  for await (const event of readEvents(body)) events.push(event);
  return events;
}

describe('server-sent events', () => {
  it('are the same for every cut of the text in two', () => {
    for (let i = 0; i <= sample.length; i++) {
      const parser = new EventParser();
      expect([...parser.push(sample.slice(0, i)), ...parser.push(sample.slice(i))], `cut at ${i}`).toEqual(expected);
    }
  });

  it('are the same for every cut of the bytes in two, within a character too', async () => {
    const all = new TextEncoder().encode(sample);
    for (let i = 0; i <= all.length; i++) {
      expect(await collect(bytes(all.slice(0, i), all.slice(i))), `cut at ${i}`).toEqual(expected);
    }
  });

  it('are the same byte by byte', async () => {
    const all = new TextEncoder().encode(sample);
    expect(await collect(bytes(...Array.from(all, (b) => Uint8Array.of(b))))).toEqual(expected);
  });

  it('that are not complete are not given', () => {
    expect(new EventParser().push('data: half')).toEqual([]);
  });

  it('break off when the daemon falls silent', async () => {
    const silent = new ReadableStream<Uint8Array>({ start: () => {} });
    await expect(readEvents(silent, 10).next()).rejects.toThrow('silent');
  });
});
