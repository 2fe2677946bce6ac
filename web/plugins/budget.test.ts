// What a first visit loads has to stay small. It looks at the last build, and is skipped where there is none.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';

const dist = new URL('../dist/', import.meta.url).pathname;
const limit = 120 * 1024; // bytes, compressed

const apps = existsSync(dist) ? readdirSync(dist) : [];

describe.skipIf(apps.length === 0).each(apps)('the first load of %s', (app) => {
  const index = readFileSync(join(dist, app, 'index.html'), 'utf8');
  const files = [...index.matchAll(/(?:src|href)="\/[^/]+\/([^"]+)"/g)].map((m) => m[1]!);

  it('is within its budget', () => {
    const size = ['index.html', ...files]
      .map((file) => gzipSync(readFileSync(join(dist, app, file)), { level: 9 }).length)
      .reduce((a, b) => a + b);
    expect(files.length).toBeGreaterThan(2);
    expect(size).toBeLessThan(limit);
  });

  it('needs nothing inline and nothing from elsewhere', () => {
    expect(index).not.toMatch(/<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|https?:\/\//);
  });

  it('has a compressed copy of each larger file', () => {
    for (const file of files) {
      const { length } = readFileSync(join(dist, app, file));
      if (length >= 512) expect(existsSync(join(dist, app, `${file}.gz`)), file).toBe(true);
    }
  });
});
