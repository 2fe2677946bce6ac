// What a screen reader is told of a growing answer: finished sentences only, without the marks of Markdown.

// Sentences remembers how far it has told.
export class Sentences {
  #told: number;

  // What the answer began with was told before, or is there to be read.
  constructor(start = '') {
    this.#told = start.length;
  }

  // take returns the sentences that were finished since the last call, or all that is left when the answer is done.
  take(text: string, done = false): string {
    const end = done ? text.length : lastEnd(text, this.#told);
    const fresh = text.slice(this.#told, end);
    this.#told = end;
    return plain(fresh);
  }
}

function lastEnd(text: string, from: number): number {
  let end = from;
  const ends = /[.!?…](?=[\s"')\]])|[。！？]|\n\s*\n/g;
  ends.lastIndex = from;
  for (let hit = ends.exec(text); hit; hit = ends.exec(text)) end = hit.index + hit[0].length;
  return end;
}

// plain leaves the words of Markdown.
export function plain(text: string): string {
  return text
    .replace(/```[^\n]*\n?/g, ' ')
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/^\s*(#{1,6}|[-*+]|>)\s+/gm, '')
    .replace(/[*_`~|]+/g, '')
    .replace(/\s+/g, ' ')
    .trim();
}
