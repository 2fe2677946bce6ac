import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, type AST } from 'svelte/compiler';
import { describe, expect, it } from 'vitest';
import { dictionaries, i18n, pick } from './index.svelte';
import { en } from './en';

const root = new URL('../..', import.meta.url).pathname;

// What is the same word in another language, or no word.
const sameInGerman = new Set(['appName', 'seconds', 'key_alt', 'branchOf', 'loadingModel']);

describe.each(Object.entries(dictionaries))('the dictionary %s', (language, dictionary) => {
  it('has every entry, of the same kind, in the same order', () => {
    expect(Object.keys(dictionary)).toEqual(Object.keys(en));
    for (const [key, value] of Object.entries(en)) {
      expect(typeof dictionary[key as keyof typeof en], key).toBe(typeof value);
    }
  });

  it('has no empty entry', () => {
    for (const [key, value] of Object.entries(dictionary)) {
      if (typeof value === 'string') expect(value.trim(), key).not.toBe('');
    }
  });

  it('translates', () => {
    if (language === 'en') return;
    for (const [key, value] of Object.entries(en)) {
      if (typeof value !== 'string' || sameInGerman.has(key)) continue;
      expect(dictionary[key as keyof typeof en], key).not.toBe(value);
    }
  });
});

describe('the language', () => {
  it('is the first one known', () => expect(pick(['fr-FR', 'de-CH', 'en'])).toBe('de'));
  it('is English without one', () => expect(pick(['fr', 'constructor'])).toBe('en'));
});

describe('a size', () => {
  it.each([
    [0, '0 kB'],
    [185_376, '185 kB'],
    [1_185_376, '1.2 MB'],
    [491_400_032, '491 MB'],
    [1_117_320_736, '1.1 GB'],
    [104_932_768_000, '105 GB'],
  ])('of %d bytes is %s', (n, words) => expect(i18n.bytes(n)).toBe(words));
});

// Words that are the same in every language: names of keys, paths and signs.
const international = /^[\s\d\p{P}\p{S}]*$|^\/models\/name\.gguf$/u;
const spoken = new Set(['aria-label', 'title', 'placeholder', 'alt', 'label']);

describe('components', () => {
  const files = ['shared', 'detra'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.svelte'))
      .map((name) => join(root, folder, name)),
  );

  it.each(files)('%s has no words of its own', (file) => {
    const words: string[] = [];
    const visit = (node: unknown): void => {
      if (Array.isArray(node)) return node.forEach(visit);
      if (typeof node !== 'object' || node === null) return;
      const { type } = node as AST.BaseNode;
      if (type === 'Text') words.push((node as AST.Text).data);
      if (type === 'Attribute') {
        const { name, value } = node as AST.Attribute;
        if (spoken.has(name)) visit(value);
        return;
      }
      for (const [key, child] of Object.entries(node)) if (key !== 'css' && key !== 'instance' && key !== 'module') visit(child);
    };
    visit(parse(readFileSync(file, 'utf8'), { modern: true }).fragment);
    expect(words.filter((w) => !international.test(w.replaceAll(/&nbsp;|\u00a0/g, ' ')))).toEqual([]);
  });
});
