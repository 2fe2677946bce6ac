// The models that can be downloaded and those that come, and what a screen reader is told of that.
import { api } from '../../shared/api';
import { i18n } from '../../shared/i18n/index.svelte';
import type { Download, Offer } from '../../shared/types';
import { current, isOver, onward, share } from '../lib/download';
import { chatWith, leaveToy } from './actions';
import { models } from './models.svelte';
import { notices } from './notices.svelte';
import { page } from './page.svelte';

class DownloadsState {
  list = $state.raw<Download[]>([]);
  offers = $state.raw<Offer[]>([]);
  said = $state(''); // the last that is worth hearing: a change of state, or another quarter of the way

  readonly current = $derived(current(this.list));

  async load(): Promise<void> {
    this.list = (await api.downloads()).map((d) => onward(this.#find(d.name), d));
  }

  // look reads what can be downloaded, and which licences were agreed to.
  async look(): Promise<void> {
    this.offers = await api.offers();
  }

  // What these bring about is told by events, which may be here before the answer and are newer then.
  async start(model: string, accept = false): Promise<string> {
    const made = await api.download(model, accept);
    if (!this.#find(made.name)) this.hear(made);
    if (accept) this.look().catch(() => {}); // the licence may be that of others too
    return made.name;
  }

  async pause(name: string): Promise<void> {
    await api.pauseDownload(name);
  }

  async resume(name: string): Promise<void> {
    await api.resumeDownload(name);
  }

  async remove(name: string): Promise<void> {
    await api.deleteDownload(name);
    this.list = this.list.filter((d) => d.name !== name);
  }

  // hear takes what the daemon says of a download.
  hear(news: Download): void {
    const before = this.#find(news.name);
    if (news.state === 'cancelled') {
      this.list = this.list.filter((d) => d.name !== news.name);
      return;
    }
    const now = onward(before, news);
    this.list = before ? this.list.map((d) => (d.name === now.name ? now : d)) : [...this.list, now];
    this.#say(before, now);
    if (now.state === 'ready' && before?.state !== 'ready') this.#arrive(now).catch(() => {});
  }

  #find(name: string): Download | undefined {
    return this.list.find((d) => d.name === name);
  }

  async #arrive({ model }: Download): Promise<void> {
    const focused = document.activeElement?.closest('main [data-download]');
    await models.load();
    if (model) await leaveToy(model);
    if (focused && !focused.isConnected) page.focusComposer(); // what had the focus is not offered any longer
  }

  #say(before: Download | undefined, now: Download): void {
    const quarter = (d: Download) => Math.floor(4 * (share(d) ?? 0));
    const news = before?.state !== now.state;
    if (!news && (now.state !== 'running' || quarter(before!) === quarter(now))) return;
    const text = i18n.t.downloadSaid(titleOf(now), describe(now));
    if (!news || !before || !isOver(now) || page.sheet === 'models') {
      this.said = text;
      return;
    }
    const { model } = now;
    notices.say({ text, action: model ? { label: i18n.t.chatWithIt, run: () => chatWith(model) } : undefined });
  }
}

export const titleOf = (d: Download) => d.title || d.name;

// describe says in words what a download is doing.
export function describe(d: Download): string {
  const { t } = i18n;
  const bytes = [i18n.bytes(d.done_bytes), i18n.bytes(d.total_bytes)] as const;
  switch (d.state) {
    case 'queued':
      return t.downloadQueued;
    case 'paused':
      return d.done_bytes ? t.downloadPaused(...bytes) : t.downloadPausedEarly;
    case 'ready':
      return t.downloadReady;
    case 'failed':
      return t.downloadFailed;
  }
  return d.stage === 'verifying' ? t.downloadChecking : t.downloading(...bytes);
}

export const downloads = new DownloadsState();
