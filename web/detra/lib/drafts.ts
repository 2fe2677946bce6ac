// What was typed and not sent, per chat, in this browser.

const key = (chat: string) => `detra.draft.${chat || 'new'}`;

export function readDraft(chat: string): string {
  return attempt(() => localStorage.getItem(key(chat))) ?? '';
}

export function writeDraft(chat: string, text: string): void {
  attempt(() => (text ? localStorage.setItem(key(chat), text) : localStorage.removeItem(key(chat))));
}

// Storage can be full or forbidden; a draft is not worth an error.
function attempt<T>(f: () => T): T | undefined {
  try {
    return f();
  } catch {
    return undefined;
  }
}
