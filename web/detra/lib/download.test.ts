import { describe, expect, it } from 'vitest';
import type { Download, Offer } from '../../shared/types';
import { coming, current, onward, share } from './download';
import { found, ordered, recommended } from './offers';

const download = (part: Partial<Download>): Download => ({
  name: 'a', state: 'running', done_bytes: 0, total_bytes: 100, began_at: '', ...part,
});

const offer = (name: string, part: Partial<Offer> = {}): Offer => ({
  name, title: `The ${name}`, kind: 'chat', parameters: '1B', quantization: 'Q4_K_M', size_bytes: 1, memory_bytes: 2, repo: 'o/r',
  license: { id: 'mit', title: 'MIT License', url: '', commercial: true, agreed: true }, here: false, ...part,
});

describe('a download', () => {
  it('does not go back: not when it goes on, not when it is checked', () => {
    const paused = download({ state: 'paused', done_bytes: 60 });
    expect(onward(paused, download({ state: 'queued' })).done_bytes).toBe(60);
    expect(onward(paused, download({ stage: 'verifying', done_bytes: 20 })).done_bytes).toBe(60);
    expect(onward(paused, download({ done_bytes: 70 })).done_bytes).toBe(70);
  });

  it('begins anew after it failed, and as another file', () => {
    expect(onward(download({ state: 'failed', done_bytes: 60 }), download({})).done_bytes).toBe(0);
    expect(onward(download({ done_bytes: 60 }), download({ total_bytes: 90 })).done_bytes).toBe(0);
    expect(onward(undefined, download({})).done_bytes).toBe(0);
  });

  it('is as far as its bytes say', () => {
    expect([share(download({ done_bytes: 25 })), share(download({ total_bytes: 0 }))]).toEqual([0.25, undefined]);
  });

  it('is told of where there is room for one if it runs, else if it waits', () => {
    const [waits, runs, done] = [download({ state: 'queued' }), download({ name: 'b' }), download({ state: 'ready' })];
    expect(current([done, waits, runs])?.name).toBe('b');
    expect(current([done, waits])).toBe(waits);
    expect(current([done, download({ state: 'paused' })])).toBeUndefined();
  });

  it('is coming until it is ready', () => {
    const failed = download({ state: 'failed' });
    expect(coming([failed], 'a')).toBe(failed);
    expect(coming([download({ state: 'ready' })], 'a')).toBeUndefined();
    expect(coming([failed], 'b')).toBeUndefined();
  });
});

describe('offers', () => {
  const names = (list: readonly Offer[]) => list.map((o) => o.name).join(' ');

  it('end with those to try things out, and those that cannot be run', () => {
    const list = [offer('sees', { unsupported: 'no pictures yet' }), offer('tries', { kind: 'test' }), offer('a'), offer('b')];
    expect(names(ordered(list))).toBe('a b tries sees');
  });

  it('are found by each of the words, in any order and case', () => {
    const list = [offer('qwen', { quantization: 'Q8_0' }), offer('coder', { kind: 'code' }), offer('qwen-coder', { kind: 'code' })];
    expect(names(found(list, ' CODE  qwen '))).toBe('qwen-coder');
    expect(names(found(list, 'q8'))).toBe('qwen');
    expect(names(found(list, 'mit the'))).toBe(names(list));
    expect(names(found(list, ''))).toBe(names(list));
  });

  it('to begin with are of the catalogue, the smallest first', () => {
    const list = [offer('qwen2.5-7b'), offer('other'), offer('qwen2.5-0.5b'), offer('qwen2.5-1.5b', { unsupported: 'x' })];
    expect(recommended(list).map((r) => [r.offer.name, r.why])).toEqual([
      ['qwen2.5-0.5b', 'recommendedSmall'],
      ['qwen2.5-7b', 'recommendedLarge'],
    ]);
  });
});
