// Colours code. The highlighter is fetched when the first code is shown, and what was rendered before it arrived is
// rendered again, because highlight() is reactive.
import type { HLJSApi } from 'highlight.js';

const longest = 30_000; // characters; beyond that colouring would make typing lag
let engine = $state.raw<HLJSApi>();
let asked = false;

// highlight returns HTML whose spans have their classes in data-hl, or nothing if it cannot.
export function highlight(text: string, language: string): string | undefined {
  if (!language || text.length > longest) return undefined;
  if (!engine) {
    fetchEngine();
    return undefined;
  }
  if (!engine.getLanguage(language)) return undefined;
  const { value } = engine.highlight(text, { language, ignoreIllegals: true });
  return value.replaceAll('<span class="', '<span data-hl="');
}

function fetchEngine(): void {
  if (asked || typeof document === 'undefined') return;
  asked = true;
  import('./languages').then(
    (m) => (engine = m.default),
    () => (asked = false),
  );
}
