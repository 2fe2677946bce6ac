// What the page makes of a training: the drawing of its curve, and how far it is.
import type { Point, Training } from '../../shared/types';

// smooth takes the mean of each loss and those around it, within a fiftieth of all: single steps differ more than the
// course does.
export function smooth(curve: readonly Point[]): Point[] {
  const reach = Math.floor(curve.length / 100);
  return curve.map(({ step }, i) => {
    const near = curve.slice(Math.max(0, i - reach), i + reach + 1);
    return { step, loss: near.reduce((sum, p) => sum + p.loss, 0) / near.length };
  });
}

// line draws points as those of a polyline in a box that `all` fills.
export function line(points: readonly Point[], all: readonly Point[], width: number, height: number): string {
  const steps = all.at(-1)?.step ?? 1;
  const losses = all.map((p) => p.loss);
  const low = Math.min(...losses);
  const span = Math.max(...losses) - low || 1;
  return points
    .map((p) => `${round(((p.step - 1) / Math.max(steps - 1, 1)) * width)},${round(height - ((p.loss - low) / span) * height)}`)
    .join(' ');
}

const round = (n: number) => Math.round(n * 10) / 10;

// grow adds the loss that a training tells of to its curve. One that went on from an earlier step tells of some again.
export function grow(curve: readonly Point[], { stage, step, loss }: Training): readonly Point[] {
  if (stage !== 'train' || step < 1 || loss === undefined || curve.at(-1)?.step === step) return curve;
  const next = [...curve.filter((p) => p.step < step), { step, loss }];
  return next.length > most ? next.filter((_, i) => i % 2 === 0 || i === next.length - 1) : next;
}

const most = 2000; // points; more are not seen

// share is how far it is, from 0 to 1, or undefined if nobody knows.
export function share({ step, steps, state }: Training): number | undefined {
  if (state === 'done') return 1;
  return steps > 0 ? Math.min(1, step / steps) : undefined;
}

// gains says whether the loss fell by so much that it is seen in the two digits that are shown.
export const gains = (before: number, after: number) => before - after >= 0.01;

export const isOver = ({ state }: Training) => state === 'done' || state === 'failed';

// newName is the first of its kind that no training has.
export function newName(taken: readonly string[], word = 'lesson'): string {
  for (let n = 1; ; n++) if (!taken.includes(`${word}-${n}`)) return `${word}-${n}`;
}

// wanted reads a number that may be left open.
export function wanted(typed: string | number | null | undefined): number | undefined {
  const value = Number(String(typed ?? '').replace(',', '.'));
  return Number.isFinite(value) && value > 0 ? value : undefined;
}
