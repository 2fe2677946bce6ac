// One build per app: its sources are in a folder of its name, it is served below /name/, and the apps share ./shared.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';
import { gzip } from './plugins/gzip.ts';

const app = 'detra';
const daemon = process.env.CENTRAM_URL ?? 'http://127.0.0.1:9740';

export default defineConfig({
  root: app,
  base: `/${app}/`,
  plugins: [svelte({ configFile: '../svelte.config.js' }), gzip()],
  build: {
    outDir: `../dist/${app}`,
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0, // the page's content security policy allows no inlined files
    modulePreload: { polyfill: false },
  },
  server: { proxy: { '/api': daemon } },
  test: { root: '.', include: ['{shared,detra,plugins}/**/*.test.ts'], environment: 'node' },
});
