import { expect, it } from 'vitest';
import type { Model } from '../../shared/types';
import { mixed, withAdapters } from './adapters';

const model = {
  name: 'qwen:3b',
  size_bytes: 100,
  state: 'ready',
  loaded: true,
  adapters: [
    { model: 'qwen:3b:notes', size_bytes: 5, state: 'ready' },
    { model: 'qwen:3b:old', size_bytes: 0, state: 'missing', error: 'gone' },
  ],
} as Model;

it('lists a model with each of its adapters', () => {
  const got = withAdapters(model).map((m) => [m.name, m.base, m.size_bytes, m.state, m.error, m.loaded]);
  expect(got).toEqual([
    ['qwen:3b', undefined, 100, 'ready', undefined, true],
    ['qwen:3b:notes', 'qwen:3b', 105, 'ready', undefined, true],
    ['qwen:3b:old', 'qwen:3b', 100, 'missing', 'gone', true],
  ]);
  expect(withAdapters({ ...model, adapters: undefined })).toHaveLength(1);
});

it('knows the model of a mixture, and nothing else', () => {
  expect(mixed('qwen:3b:notes+old', [model])).toMatchObject({ name: 'qwen:3b:notes+old', base: 'qwen:3b', loaded: true });
  expect(mixed('qwen:3b:notes@0.5', [model])?.base).toBe('qwen:3b');
  for (const name of ['', 'qwen:3b', 'qwen:3b:notes', 'none:a+b', 'a+b', ':a+b']) expect(mixed(name, [model])).toBeUndefined();
});
