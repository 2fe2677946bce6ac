// The trainings of the daemon, what they are doing, and what a screen reader is told of that.
import { api } from '../../shared/api';
import { i18n } from '../../shared/i18n/index.svelte';
import type { Point, Training, TrainingDraft } from '../../shared/types';
import { grow, isOver, share } from '../lib/lesson';
import { models } from './models.svelte';
import { notices } from './notices.svelte';
import { page } from './page.svelte';

class TrainingsState {
  list = $state.raw<Training[]>([]);
  curves = $state.raw<Readonly<Record<string, readonly Point[]>>>({});
  said = $state(''); // the last that is worth hearing: a change of state, or another quarter of the way

  async load(): Promise<void> {
    this.list = await api.trainings();
    if (page.sheet === 'teach') await this.loadCurves();
  }

  // loadCurves is for when they are looked at: the list comes without.
  async loadCurves(): Promise<void> {
    const whole = await Promise.all(this.list.map((t) => api.training(t.id)));
    this.curves = Object.fromEntries(whole.map((t) => [t.id, t.curve ?? []]));
  }

  // What these bring about is told by events, which may be here before the answer and are newer then.
  async start(draft: TrainingDraft): Promise<string> {
    const made = await api.teach(draft);
    if (!this.list.some((t) => t.id === made.id)) this.hear(made);
    return made.id;
  }

  async pause(id: string): Promise<void> {
    await api.pauseTraining(id);
  }

  async resume(id: string): Promise<void> {
    await api.resumeTraining(id);
  }

  async remove(id: string): Promise<void> {
    await api.deleteTraining(id);
    this.list = this.list.filter((t) => t.id !== id);
  }

  // hear takes what the daemon says of a training.
  hear({ curve, ...now }: Training): void {
    const before = this.list.find((t) => t.id === now.id);
    if (now.state === 'cancelled') {
      this.list = this.list.filter((t) => t.id !== now.id);
      return;
    }
    this.list = before ? this.list.map((t) => (t.id === now.id ? now : t)) : [now, ...this.list];
    this.curves = { ...this.curves, [now.id]: curve ?? grow(this.curves[now.id] ?? [], now) };
    this.#say(before, now);
    if (now.state === 'done' && before?.state !== 'done') models.load().catch(() => {});
    if (isOver(now) && before?.state !== now.state) this.#loadCurve(now.id).catch(() => {}); // not every step is told of
  }

  async #loadCurve(id: string): Promise<void> {
    const { curve } = await api.training(id);
    this.curves = { ...this.curves, [id]: curve ?? [] };
  }

  #say(before: Training | undefined, now: Training): void {
    const quarter = (t: Training) => Math.floor(4 * (share(t) ?? 0));
    const news = before?.state !== now.state;
    if (!news && (now.state !== 'running' || quarter(before!) === quarter(now))) return;
    this.said = i18n.t.lessonSaid(now.name, describe(now));
    if (news && before && isOver(now) && page.sheet !== 'teach') notices.say({ text: this.said });
  }
}

// describe says in words what a training is doing.
export function describe(lesson: Training): string {
  const { t } = i18n;
  const at = [i18n.number(lesson.step), i18n.number(lesson.steps)] as const;
  switch (lesson.state) {
    case 'queued':
      return t.lessonQueued;
    case 'paused':
      return lesson.step ? t.lessonPaused(...at) : t.lessonPausedEarly;
    case 'done':
      return t.lessonDone;
    case 'failed':
      return t.lessonFailed;
  }
  if (lesson.stage === 'train') return t.lessonTrain(...at);
  if (lesson.stage === 'after' || lesson.stage === 'done') return t.lessonAfter;
  return lesson.stage === 'before' ? t.lessonBefore : t.lessonReading;
}

export const trainings = new TrainingsState();
