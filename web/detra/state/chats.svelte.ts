// The list of conversations beside the messages: newest first, or those that a search found.
import { api } from '../../shared/api';
import type { ChatSummary } from '../../shared/types';

const page = 50;

class ChatsState {
  list = $state.raw<ChatSummary[]>([]);
  more = $state(false);
  query = $state('');
  busy = $state(false);
  known = $state(false);
  error = $state.raw<unknown>();
  #leaving = $state.raw<ReadonlySet<string>>(new Set()); // deleted here, still undoable
  #abort = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  shown = $derived(this.list.filter((c) => !this.#leaving.has(c.id)));

  // load reads the list again, as long as it was.
  load(): Promise<void> {
    return this.#read(undefined, Math.min(500, Math.max(page, this.list.length)));
  }

  loadMore(): Promise<void> {
    return this.#read(this.list.at(-1)?.id, page);
  }

  // search waits until typing pauses.
  search(query: string): void {
    this.query = query;
    this.list = query.trim() || !this.known ? this.list : [];
    this.#later(query ? 180 : 0, page);
  }

  hear(): void {
    this.#later(250);
  }

  // touch shows a change of one chat before the daemon tells of it.
  touch(chat: ChatSummary): void {
    const { id, title, model, created_at, updated_at } = chat;
    const known = this.list.find((c) => c.id === id);
    if (!known && this.query.trim()) return;
    const summary = { ...known, id, title, model, created_at, updated_at };
    this.list = [...this.list.filter((c) => c.id !== id), summary].sort((a, b) => compare(b, a));
  }

  async rename(id: string, title: string): Promise<void> {
    this.list = this.list.map((c) => (c.id === id ? { ...c, title } : c));
    this.touch(await api.patchChat(id, { title }));
  }

  // hide takes a chat from the list; it is deleted by remove, or comes back by restore.
  hide(id: string): void {
    this.#leaving = new Set([...this.#leaving, id]);
  }

  restore(id: string): void {
    this.#leaving = new Set([...this.#leaving].filter((x) => x !== id));
  }

  async remove(id: string, keepalive = false): Promise<void> {
    try {
      await api.deleteChat(id, keepalive);
      this.list = this.list.filter((c) => c.id !== id);
    } finally {
      this.restore(id);
    }
  }

  neighbour(id: string, by: number): string | undefined {
    const at = this.shown.findIndex((c) => c.id === id);
    return this.shown[at < 0 ? 0 : at + by]?.id;
  }

  #later(ms: number, limit?: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (limit ? this.#read(undefined, limit) : this.load()), ms);
  }

  async #read(before: string | undefined, limit: number): Promise<void> {
    this.#abort.abort();
    const abort = (this.#abort = new AbortController());
    this.busy = true;
    try {
      const { chats, more } = await api.chats({ q: this.query.trim(), before, limit }, abort.signal);
      if (abort.signal.aborted) return;
      this.list = before ? [...this.list, ...(chats ?? [])] : (chats ?? []);
      this.more = more;
      this.known = true;
      this.error = undefined;
    } catch (e) {
      if (!abort.signal.aborted) this.error = e;
    } finally {
      if (this.#abort === abort) this.busy = false;
    }
  }
}

function compare(a: ChatSummary, b: ChatSummary): number {
  return Date.parse(a.updated_at) - Date.parse(b.updated_at) || a.id.localeCompare(b.id);
}

export const chats = new ChatsState();
