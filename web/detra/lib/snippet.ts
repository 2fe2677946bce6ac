// Search hits come with a snippet in which U+E000 and U+E001 stand around what was found.

export interface Piece {
  text: string;
  hit: boolean;
}

export function pieces(snippet: string): Piece[] {
  const parts = snippet.split(/\uE000([^\uE001]*)\uE001?/);
  return parts.map((text, i) => ({ text, hit: i % 2 === 1 })).filter((p) => p.text !== '');
}

// hits returns the words that were found, without repeats.
export function hits(snippet: string): string[] {
  return [...new Set(pieces(snippet).flatMap((p) => (p.hit ? [p.text.toLowerCase()] : [])))];
}
