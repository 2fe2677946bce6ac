// The keys, in the order of the help sheet. `mod` is Ctrl, or Cmd on a Mac.

export type Command =
  | 'search' | 'newChat' | 'stop' | 'composer' | 'editLast' | 'previousChat' | 'nextChat'
  | 'sidebar' | 'models' | 'settings' | 'help';

export interface Shortcut {
  command: Command;
  key: string;
  mod?: boolean;
  shift?: boolean;
  alt?: boolean;
  shown: string[];
  single?: boolean; // a lone character, which people may turn off
  local?: boolean; // acts only where it is handled, as in the composer
}

export const shortcuts: readonly Shortcut[] = [
  { command: 'newChat', key: 'o', mod: true, shift: true, shown: ['mod', 'shift', 'O'] },
  { command: 'search', key: 'k', mod: true, shown: ['mod', 'K'] },
  { command: 'stop', key: 'Escape', shown: ['Esc'], local: true },
  { command: 'composer', key: '/', single: true, shown: ['/'] },
  { command: 'editLast', key: 'ArrowUp', shown: ['↑'], local: true },
  { command: 'previousChat', key: 'ArrowUp', alt: true, shown: ['alt', '↑'] },
  { command: 'nextChat', key: 'ArrowDown', alt: true, shown: ['alt', '↓'] },
  { command: 'models', key: '.', mod: true, shown: ['mod', '.'] },
  { command: 'sidebar', key: 'b', mod: true, shown: ['mod', 'B'] },
  { command: 'settings', key: ',', mod: true, shown: ['mod', ','] },
  { command: 'help', key: '?', single: true, shown: ['?'] },
  { command: 'help', key: '/', mod: true, shown: ['mod', '/'] },
];

export interface KeyLike {
  key: string;
  ctrlKey: boolean;
  metaKey: boolean;
  shiftKey: boolean;
  altKey: boolean;
}

// find returns the command of a key press. typing says that the focus is where characters are text.
export function find(e: KeyLike, typing: boolean, singles: boolean): Command | undefined {
  return shortcuts.find((s) => {
    if (s.local || (s.single && (typing || !singles))) return false;
    const sameKey = e.key.toLowerCase() === s.key.toLowerCase();
    const shift = s.single || !s.mod || e.shiftKey === !!s.shift || s.key === '/';
    return sameKey && shift && (e.ctrlKey || e.metaKey) === !!s.mod && e.altKey === !!s.alt;
  })?.command;
}
