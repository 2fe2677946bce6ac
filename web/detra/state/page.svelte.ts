// What the page itself remembers: which chat the address names, what is open, and where the focus belongs.

import { flushSync } from 'svelte';
import { readDraft, writeDraft } from '../lib/drafts';

export type Sheet = 'settings' | 'chat' | 'models' | 'help' | 'teach';

const narrowQuery = '(max-width: 50rem)';

class Page {
  chatId = $state(read());
  narrow = $state(matchMedia(narrowQuery).matches);
  sidebar = $state(!matchMedia(narrowQuery).matches);
  sheet = $state<Sheet>();
  teachFrom = $state(''); // the conversation that is to be learnt from, when that sheet is opened
  editing = $state(''); // the message that is being edited
  reveal = $state.raw<readonly string[]>([]); // words to scroll to once the chat is shown
  singleKeys = $state(localStorage.getItem('centram.singleKeys') !== 'off');
  composer: HTMLTextAreaElement | undefined;
  searchField: HTMLInputElement | undefined;

  start(): void {
    addEventListener('hashchange', () => {
      this.chatId = read();
      this.editing = '';
    });
    matchMedia(narrowQuery).addEventListener('change', (e) => {
      this.narrow = e.matches;
      this.sidebar = !e.matches;
    });
  }

  // go shows a chat, or a new one for no id.
  go(id: string, reveal: readonly string[] = []): void {
    this.reveal = reveal;
    if (this.narrow) this.sidebar = false;
    if (id !== this.chatId) location.hash = id ? `#/c/${encodeURIComponent(id)}` : '#/';
    if (!id) this.focusComposer();
  }

  // adopt gives the page the address of a chat that was just made, and what was typed since.
  adopt(id: string): void {
    writeDraft(id, readDraft(''));
    writeDraft('', '');
    history.replaceState(null, '', `#/c/${encodeURIComponent(id)}`);
    this.chatId = id;
  }

  focusComposer(): void {
    flushSync();
    this.composer?.focus();
  }

  focusSearch(): void {
    this.sidebar = true;
    flushSync(); // at once, or the first keys would go elsewhere
    this.searchField?.select();
  }

  useSingleKeys(on: boolean): void {
    this.singleKeys = on;
    localStorage.setItem('centram.singleKeys', on ? 'on' : 'off');
  }
}

function read(): string {
  const id = /^#\/c\/(.+)$/.exec(location.hash)?.[1];
  return id ? decodeURIComponent(id) : '';
}

export const page = new Page();
