// Keys that work everywhere on the page.
import { find, type Command } from '../lib/shortcuts';
import { attempt } from './actions';
import { chat } from './chat.svelte';
import { chats } from './chats.svelte';
import { page } from './page.svelte';

const run: Partial<Record<Command, () => void>> = {
  search: () => page.focusSearch(),
  newChat: () => page.go(''),
  composer: () => page.focusComposer(),
  previousChat: () => step(-1),
  nextChat: () => step(1),
  sidebar: () => (page.sidebar = !page.sidebar),
  models: () => (page.sheet = 'models'),
  settings: () => (page.sheet = 'settings'),
  help: () => (page.sheet = 'help'),
};

export function onkeydown(e: KeyboardEvent): void {
  if (e.defaultPrevented || e.isComposing || document.querySelector('dialog[open]')) return;
  if (e.key === 'Escape') {
    if (chat.last?.generating) attempt(chat.stop());
    return;
  }
  const command = find(e, isTyping(e.target), page.singleKeys);
  if (!command) return;
  e.preventDefault();
  run[command]?.();
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches('input, textarea, select, [contenteditable]');
}

function step(by: number): void {
  const id = chats.neighbour(page.chatId, by);
  if (id) page.go(id);
}
