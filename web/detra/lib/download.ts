// What is shown of a download: how far it is, and which one of several.
import type { Download } from '../../shared/types';

export const isOver = ({ state }: Download) => state === 'ready' || state === 'failed';

// onward is what is shown of a download now. One that goes on after a pause tells of no bytes at first, and checks its
// bytes from the first on: it is not less far for that.
export function onward(before: Download | undefined, now: Download): Download {
  if (!before || isOver(before) || before.total_bytes !== now.total_bytes) return now;
  return { ...now, done_bytes: Math.max(before.done_bytes, now.done_bytes) };
}

// share is how far it is, from 0 to 1, or undefined if nobody knows.
export function share({ done_bytes, total_bytes }: Download): number | undefined {
  return total_bytes > 0 ? Math.min(1, done_bytes / total_bytes) : undefined;
}

// current is the download that is told of where there is room for one: what runs, else what waits.
export function current(list: readonly Download[]): Download | undefined {
  return list.find((d) => d.state === 'running') ?? list.find((d) => d.state === 'queued');
}

// coming is the download of a model that is not here yet: it may be paused, or have failed.
export const coming = (list: readonly Download[], name: string) => list.find((d) => d.name === name && d.state !== 'ready');
