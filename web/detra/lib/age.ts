// The list of conversations by age, in days of the calendar.
import type { ChatSummary } from '../../shared/types';

export type Age = 'today' | 'yesterday' | 'lastWeek' | 'earlier';

const day = 86_400_000; // ms

export function byAge(list: readonly ChatSummary[], now: Date): { age: Age; chats: ChatSummary[] }[] {
  const groups = new Map<Age, ChatSummary[]>();
  for (const chat of list) {
    const age = ageOf(new Date(chat.updated_at), now);
    groups.set(age, [...(groups.get(age) ?? []), chat]);
  }
  return [...groups].map(([age, chats]) => ({ age, chats }));
}

export function ageOf(then: Date, now: Date): Age {
  const days = Math.round((midnight(now) - midnight(then)) / day);
  if (days <= 0) return 'today';
  if (days === 1) return 'yesterday';
  return days <= 7 ? 'lastWeek' : 'earlier';
}

function midnight(d: Date): number {
  return new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime();
}
