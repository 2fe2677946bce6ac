// Which models are offered, in which order, and which of them to begin with.
import type { Offer } from '../../shared/types';

// ordered puts those behind that are only to try things out, and behind them those that cannot be run.
export function ordered(offers: readonly Offer[]): Offer[] {
  return [...offers].sort((a, b) => rank(a) - rank(b));
}

const rank = (o: Offer) => (o.unsupported ? 2 : o.kind === 'test' ? 1 : 0);

// found are the offers in which each of the words occurs.
export function found(offers: readonly Offer[], query: string): Offer[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return offers.filter((o) => {
    const text = [o.name, o.title, o.kind, o.parameters, o.quantization, o.license.title].join(' ').toLowerCase();
    return words.every((w) => text.includes(w));
  });
}

// The names of the catalogue to begin with, and the words for why.
const beginnings = [
  ['qwen2.5-0.5b', 'recommendedSmall'],
  ['qwen2.5-1.5b', 'recommendedUsual'],
  ['qwen2.5-7b', 'recommendedLarge'],
] as const;

export interface Recommendation {
  offer: Offer;
  why: (typeof beginnings)[number][1];
}

export function recommended(offers: readonly Offer[]): Recommendation[] {
  return beginnings.flatMap(([name, why]) => {
    const offer = offers.find((o) => o.name === name && !o.unsupported);
    return offer ? [{ offer, why }] : [];
  });
}
