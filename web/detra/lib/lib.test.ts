// The small modules that shape what is shown.
import { describe, expect, it } from 'vitest';
import type { Chat, Message } from '../../shared/types';
import { ageOf } from './age';
import { fileName, toMarkdown } from './export';
import { differs, parse, rows, withField } from './sampling';
import { plain, Sentences } from './sentences';
import { find, type KeyLike } from './shortcuts';
import { hits, pieces } from './snippet';

describe('sentences', () => {
  it('are told when they are finished, and each once', () => {
    const sentences = new Sentences();
    expect(sentences.take('The first. The sec')).toBe('The first.');
    expect(sentences.take('The first. The second! And')).toBe('The second!');
    expect(sentences.take('The first. The second! And')).toBe('');
    expect(sentences.take('The first. The second! And more', true)).toBe('And more');
  });

  it('do not end within a number', () => expect(new Sentences().take('Pi is 3.14 and')).toBe(''));
  it('end at a blank line', () => expect(new Sentences().take('# Title\n\nText')).toBe('Title'));
  it('begin after what was there before', () => expect(new Sentences('Old. ').take('Old. New. ')).toBe('New.'));
  it('have no marks', () => expect(plain('**a** [b](c) `d`\n- e')).toBe('a b d e'));
});

describe('a snippet', () => {
  it('is cut at its marks', () => {
    expect(pieces('a \uE000hit\uE001 b \uE000two')).toEqual([
      { text: 'a ', hit: false },
      { text: 'hit', hit: true },
      { text: ' b ', hit: false },
      { text: 'two', hit: true },
    ]);
    expect(hits('\uE000Hit\uE001 and \uE000hit\uE001')).toEqual(['hit']);
    expect(pieces('')).toEqual([]);
  });
});

describe('sampling', () => {
  const row = rows[0]!;
  it('differs only from what it would be without', () => {
    expect(differs(row, {}, {})).toBe(false);
    expect(differs(row, { temperature: 0.8 }, {})).toBe(false);
    expect(differs(row, { temperature: 0.8 }, { temperature: 1 })).toBe(true);
  });
  it('is reset by leaving it open', () => expect(withField({ temperature: 1, top_k: 3 }, 'temperature', undefined)).toEqual({ top_k: 3 }));
  it('is read within its bounds', () => {
    expect([parse(row, ''), parse(row, 'x'), parse(row, '9'), parse(row, '0,7'), parse(rows[1]!, '2.6')]).toEqual([undefined, undefined, 5, 0.7, 3]);
  });
});

describe('age', () => {
  const now = new Date('2026-03-10T08:00:00');
  it.each([
    ['2026-03-10T00:01:00', 'today'],
    ['2026-03-11T00:01:00', 'today'],
    ['2026-03-09T23:59:00', 'yesterday'],
    ['2026-03-03T12:00:00', 'lastWeek'],
    ['2026-03-02T12:00:00', 'earlier'],
  ])('of %s is %s', (then, age) => expect(ageOf(new Date(then), now)).toBe(age));
});

describe('shortcuts', () => {
  const press = (key: string, more: Partial<KeyLike> = {}): KeyLike => ({
    key, ctrlKey: false, metaKey: false, shiftKey: false, altKey: false, ...more,
  });
  it('of one character are text where one types', () => {
    expect(find(press('?', { shiftKey: true }), false, true)).toBe('help');
    expect(find(press('?', { shiftKey: true }), true, true)).toBeUndefined();
    expect(find(press('?', { shiftKey: true }), false, false)).toBeUndefined();
  });
  it('with modifiers work everywhere', () => {
    expect(find(press('k', { ctrlKey: true }), true, true)).toBe('search');
    expect(find(press('K', { metaKey: true }), true, true)).toBe('search');
    expect(find(press('O', { ctrlKey: true, shiftKey: true }), true, true)).toBe('newChat');
    expect(find(press('/', { ctrlKey: true }), true, true)).toBe('help');
  });
  it('leave other keys alone', () => {
    expect(find(press('o', { ctrlKey: true }), true, true)).toBeUndefined();
    expect(find(press('ArrowUp'), false, true)).toBeUndefined();
    expect(find(press('k'), false, true)).toBeUndefined();
  });
});

describe('export', () => {
  it('writes what is shown', () => {
    const chat = { title: 'T', system: 'Be brief.' } as Chat;
    const path = [{ role: 'user', content: 'Hi\n' }, { role: 'assistant', content: 'Hello', model: 'tiny' }] as Message[];
    const names = { untitled: 'U', user: 'You', assistant: 'A', system: 'S' };
    expect(toMarkdown(chat, path, names)).toBe('# T\n\n## S\n\nBe brief.\n\n## You\n\nHi\n\n## tiny\n\nHello\n');
  });
  it('names files by their title', () => {
    expect(fileName('Größe: a/b?', 'chat', 'md')).toBe('Größe-a-b.md');
    expect(fileName('///', 'chat', 'json')).toBe('chat.json');
  });
});
