// The sampling settings, one row each, and what applies when a field is left open.
import type { Sampling } from '../../shared/types';

export type Field = keyof Sampling;

export interface Row {
  field: Field;
  min: number;
  max: number;
  step: number;
  standard: number | undefined; // what the daemon uses; undefined means a random number
}

export const rows: readonly Row[] = [
  { field: 'temperature', min: 0, max: 5, step: 0.05, standard: 0.8 },
  { field: 'top_k', min: 0, max: 1_000_000, step: 1, standard: 40 },
  { field: 'top_p', min: 0, max: 1, step: 0.01, standard: 0.95 },
  { field: 'min_p', min: 0, max: 1, step: 0.01, standard: 0.05 },
  { field: 'repeat_penalty', min: 0, max: 5, step: 0.05, standard: 1 },
  { field: 'max_tokens', min: 0, max: 1_000_000, step: 1, standard: 0 },
  { field: 'seed', min: 0, max: 4_294_967_295, step: 1, standard: undefined },
];

// inherited is what a field has when it is left open: the defaults' value, or else the daemon's.
export function inherited(row: Row, base: Sampling): number | undefined {
  return base[row.field] ?? row.standard;
}

export function differs(row: Row, own: Sampling, base: Sampling): boolean {
  const value = own[row.field];
  return value !== undefined && value !== inherited(row, base);
}

// withField sets a field, or leaves it open again.
export function withField(own: Sampling, field: Field, value: number | undefined): Sampling {
  const next = { ...own };
  if (value === undefined) delete next[field];
  else next[field] = value;
  return next;
}

// parse reads what was typed: nothing for an empty field, and the nearest value that is allowed.
export function parse(row: Row, typed: string): number | undefined {
  const value = Number(typed.replace(',', '.'));
  if (typed.trim() === '' || Number.isNaN(value)) return undefined;
  const whole = row.step >= 1 ? Math.round(value) : value;
  return Math.min(row.max, Math.max(row.min, whole));
}

export function differsFromDefaults(own: Sampling, base: Sampling): boolean {
  return rows.some((row) => differs(row, own, base));
}
