// What a person can do with a conversation from more than one place of the page.
import { flushSync } from 'svelte';
import { api } from '../../shared/api';
import { i18n } from '../../shared/i18n/index.svelte';
import type { ChatSummary } from '../../shared/types';
import { readDraft } from '../lib/drafts';
import { fileName, save, toJson, toMarkdown } from '../lib/export';
import { childrenOf, visiblePath } from '../lib/tree';
import { chat } from './chat.svelte';
import { chats } from './chats.svelte';
import { notices } from './notices.svelte';
import { page } from './page.svelte';

const leaving = new Set<string>();

// deleteChat hides a chat and deletes it when the time to undo that is over.
export function deleteChat({ id, title }: Pick<ChatSummary, 'id' | 'title'>): void {
  const shown = page.chatId === id;
  chats.hide(id);
  leaving.add(id);
  if (shown) page.go('');
  notices.say({
    text: i18n.t.deleted(title || i18n.t.untitled),
    action: {
      label: i18n.t.undo,
      icon: 'undo',
      run: () => {
        leaving.delete(id);
        chats.restore(id);
        if (shown) page.go(id);
      },
    },
    gone: () => {
      if (leaving.delete(id)) chats.remove(id).catch(notices.fail);
    },
  });
}

// finishDeleting is for the end of the page: after it nobody can undo.
export function finishDeleting(): void {
  for (const id of leaving) chats.remove(id, true).catch(() => {});
  leaving.clear();
}

export async function exportChat(id: string, kind: 'markdown' | 'json'): Promise<void> {
  const { t } = i18n;
  try {
    const whole = id === chat.meta.id ? chat.snapshot() : await api.chat(id);
    const messages = whole.messages ?? [];
    if (kind === 'json') return save(fileName(whole.title, 'chat', 'json'), 'application/json', toJson(whole));
    const path = visiblePath(messages, childrenOf(messages), whole.head).map((s) => s.node);
    const names = { untitled: t.untitled, user: t.you, assistant: t.assistant, system: t.systemPromptName };
    save(fileName(whole.title, 'chat', 'md'), 'text/markdown', toMarkdown(whole, path, names));
  } catch (e) {
    notices.fail(e);
  }
}

// teachFrom opens the sheet of trainings, with a conversation to learn from if one is named.
export function teachFrom(chatId: string): void {
  page.teachFrom = chatId;
  page.sheet = 'teach';
}

// chatWith begins a conversation with a model.
export async function chatWith(model: string): Promise<void> {
  page.sheet = undefined;
  page.go('');
  if (page.chatId) await new Promise((done) => addEventListener('hashchange', done, { once: true }));
  flushSync(); // the empty chat is open now
  await attempt(chat.change({ model }));
  page.focusComposer();
}

// leaveToy has a model that has just come answer in an empty chat that is the toy's, unless something was typed for it.
export async function leaveToy(model: string): Promise<void> {
  if (chat.meta.id || readDraft('') || !chat.model?.built_in) return;
  await attempt(chat.change({ model }));
}

// copy falls back to nothing but words: without a secure context there is no clipboard.
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    notices.say({ text: i18n.t.copyFailed });
    return false;
  }
}

// attempt shows the error of an action that failed, and says whether it succeeded.
export async function attempt(action: Promise<unknown>): Promise<boolean> {
  try {
    await action;
    return true;
  } catch (e) {
    notices.fail(e);
    return false;
  }
}
