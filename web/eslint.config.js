import js from '@eslint/js';
import svelte from 'eslint-plugin-svelte';
import globals from 'globals';
import ts from 'typescript-eslint';
import svelteConfig from './svelte.config.js';

// fetch belongs to shared/api.ts, which knows the token and how errors look.
const onlyApiFetches = {
  'no-restricted-globals': ['error', { name: 'fetch', message: 'Use shared/api.ts.' }, 'XMLHttpRequest', 'EventSource'],
};

export default [
  { ignores: ['dist/', 'node_modules/'] },
  js.configs.recommended,
  ...ts.configs.recommended,
  ...svelte.configs.recommended,
  {
    languageOptions: { globals: { ...globals.browser, ...globals.node } },
    rules: {
      'max-lines': ['error', 300],
      eqeqeq: 'error',
      'prefer-const': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
    },
  },
  { files: ['{shared,detra}/**'], ignores: ['shared/api.ts'], rules: onlyApiFetches },
  {
    files: ['**/*.svelte', '**/*.svelte.ts'],
    languageOptions: { parserOptions: { parser: ts.parser, extraFileExtensions: ['.svelte'], svelteConfig } },
    rules: { 'svelte/no-inline-styles': ['error', { allowTransitions: false }], 'svelte/button-has-type': 'error', 'svelte/prefer-svelte-reactivity': 'off' },
  },
];
