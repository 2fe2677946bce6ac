// Short messages at the edge of the page: one at a time for the eye, and all of them for a screen reader.
import type { IconName } from '../../shared/ui/Icon.svelte';

export interface Notice {
  text?: string;
  error?: unknown;
  action?: { label: string; icon?: IconName; run: () => void };
  gone?: () => void; // when it disappears without its action
}

const shownFor = 10_000; // ms

class Notices {
  current = $state.raw<Notice>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  say(notice: Notice): void {
    this.dismiss();
    this.current = notice;
    this.resume();
  }

  fail = (error: unknown): void => this.say({ error });

  // pause keeps a notice while the pointer or the focus is on it.
  pause(): void {
    clearTimeout(this.#timer);
  }

  resume(): void {
    this.pause();
    if (this.current) this.#timer = setTimeout(() => this.dismiss(), shownFor);
  }

  act(): void {
    const notice = this.#take();
    notice?.action?.run();
  }

  dismiss(): void {
    this.#take()?.gone?.();
  }

  #take(): Notice | undefined {
    this.pause();
    const notice = this.current;
    this.current = undefined;
    return notice;
  }
}

export const notices = new Notices();
