// The conversation that is open, or the one that its first message will make.
import { flushSync } from 'svelte';
import { api } from '../../shared/api';
import type { Chat, ChatPatch, Message, MessageEventData } from '../../shared/types';
import { follow } from '../lib/stream';
import { childrenOf, siblingHead, visiblePath, type Step } from '../lib/tree';
import { chats } from './chats.svelte';
import { LiveMessage } from './message.svelte';
import { models } from './models.svelte';

export type ChatMeta = Omit<Chat, 'messages'>;

const blank: ChatMeta = {
  id: '', title: '', model: '', system: '', sampling: {}, head: '', created_at: '', updated_at: '',
};
const paintEvery = 40; // ms between two updates of a growing answer, or longer where they are slow

export class OpenChat {
  meta = $state.raw<ChatMeta>(blank);
  messages = $state.raw<LiveMessage[]>([]);
  ready = $state(true); // false while the chat is read
  error = $state.raw<unknown>(); // why it could not be read
  asking = $state(false); // a message is on its way
  created: (id: string) => void = () => {}; // told of a chat before it is shown
  #leave = new AbortController(); // aborted when this chat is left; ends what is followed
  #followed = new Set<string>();
  #written = 0; // counts changes made here, so that a reading that began before one is not shown

  readonly children = $derived(childrenOf(this.messages));
  readonly path: Step<LiveMessage>[] = $derived(visiblePath(this.messages, this.children, this.meta.head));
  readonly last = $derived(this.path.at(-1)?.node);
  readonly busy = $derived(this.asking || !!this.last?.generating);
  readonly model = $derived(models.of(this.meta.model));

  // open shows a chat, or an empty one for no id.
  async open(id: string): Promise<void> {
    this.close();
    this.meta = { ...blank, id };
    this.ready = !id;
    if (id) await this.refresh();
  }

  close(): void {
    this.#leave.abort();
    this.#leave = new AbortController();
    this.#followed.clear();
    this.messages = [];
    this.error = undefined;
    this.asking = false;
  }

  // refresh reads the chat again. What is being followed is newer than what was read, and stays.
  async refresh(): Promise<void> {
    const { signal } = this.#leave;
    const written = this.#written;
    if (!this.meta.id) return;
    try {
      const { messages = [], ...meta } = await api.chat(this.meta.id, signal);
      if (signal.aborted) return;
      if (written !== this.#written) return await this.refresh();
      this.meta = meta;
      this.#take(messages);
      this.error = undefined;
    } catch (e) {
      if (!signal.aborted) this.error = e;
    }
    if (!signal.aborted) this.ready = true;
  }

  // ask sends a message below parent and follows the answer. It makes the chat first if there is none yet.
  async ask(content: string, parent = this.last?.id ?? ''): Promise<void> {
    const { signal } = this.#leave;
    this.asking = true;
    try {
      if (!this.meta.id) await this.#create(signal);
      const chat = this.meta.id;
      const { user, assistant } = await api.ask(chat, parent, content);
      if (!signal.aborted && this.meta.id === chat) this.#show([user, assistant], assistant.id);
    } finally {
      if (!signal.aborted) this.asking = false;
    }
  }

  async regenerate(message: LiveMessage): Promise<void> {
    const answer = await api.regenerate(this.meta.id, message.id);
    this.#show([answer], answer.id);
  }

  async continue(message: LiveMessage): Promise<void> {
    const answer = await api.continue(this.meta.id, message.id);
    this.#show([answer], answer.id);
  }

  async stop(): Promise<void> {
    const { last } = this;
    if (last?.generating) await api.stop(this.meta.id, last.id);
  }

  // turn shows the branch `by` places beside a step of the path.
  async turn(step: Step<LiveMessage>, by: number): Promise<void> {
    const head = siblingHead(this.children, step, by);
    if (head) await this.change({ head });
  }

  // change shows at once what it saves. Of a chat that does not exist yet it is kept for its making.
  async change(patch: ChatPatch): Promise<void> {
    const before = this.meta;
    this.#written++;
    this.meta = { ...before, ...patch };
    if (!before.id) return;
    chats.touch(this.meta);
    try {
      const { messages: _, ...meta } = await api.patchChat(before.id, patch);
      if (this.meta.id === meta.id) this.meta = meta;
    } catch (e) {
      if (this.meta.id === before.id) this.meta = before;
      chats.touch(before);
      throw e;
    }
  }

  // retitle takes the title from the list, where it may be given by the daemon or from elsewhere.
  retitle(title: string): void {
    if (title !== this.meta.title) this.meta = { ...this.meta, title };
  }

  // hear learns of an answer that was asked for elsewhere, as in another window.
  hear(event: MessageEventData): void {
    if (event.chat !== this.meta.id || this.asking || this.#followed.has(event.id)) return;
    const known = this.messages.find((m) => m.id === event.id);
    if (!known || known.state !== event.state) this.refresh();
  }

  snapshot(): Chat {
    return { ...this.meta, messages: this.messages.map((m) => m.plain()) };
  }

  async #create(signal: AbortSignal): Promise<void> {
    const { model, system, sampling } = this.meta;
    const { messages: _, ...meta } = await api.createChat({ model, system, sampling });
    if (signal.aborted) throw signal.reason;
    this.created(meta.id);
    this.meta = meta;
  }

  #show(fresh: Message[], head: string): void {
    const { messages } = this;
    this.#written++;
    const known = new Map(messages.map((m) => [m.id, m]));
    for (const m of fresh) known.get(m.id)?.update(m);
    this.messages = [...messages, ...fresh.filter((m) => !known.has(m.id)).map((m) => new LiveMessage(m))];
    this.meta = { ...this.meta, head };
    this.#followAll();
  }

  #take(messages: Message[]): void {
    const known = new Map(this.messages.map((m) => [m.id, m]));
    this.messages = messages.map((m) => {
      const old = known.get(m.id);
      if (!old) return new LiveMessage(m);
      if (!this.#followed.has(m.id)) old.update(m);
      return old;
    });
    this.#followAll();
  }

  #followAll(): void {
    for (const m of this.messages) if (m.generating && !this.#followed.has(m.id)) this.#follow(m);
  }

  #follow(message: LiveMessage): void {
    const { signal } = this.#leave;
    const chat = this.meta.id;
    let text = message.content;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const finish = (end: () => void) => {
      clearTimeout(timer);
      this.#followed.delete(message.id);
      end();
    };
    let cost = 0; // of the last painting, ms
    const paint = () => {
      const start = performance.now();
      timer = undefined;
      message.content = text;
      flushSync();
      cost = performance.now() - start;
    };
    this.#followed.add(message.id);
    follow(text, (from, s) => api.answer(chat, message.id, from, s), {
      phase: (phase) => (message.phase = phase),
      text: (all) => {
        text = all;
        message.phase = undefined;
        timer ??= setTimeout(paint, Math.max(paintEvery, 4 * cost));
      },
      done: (m) => finish(() => message.update(m)),
      lost: (error) => finish(() => message.update({ ...message.plain(), content: text, state: 'failed', error })),
    }, signal);
  }
}

export const chat = new OpenChat();
