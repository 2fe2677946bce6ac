// The theme is set before the page is drawn from what this browser remembers (see public/theme.js), and then from the
// daemon's settings.
import type { Theme } from './types';

export function applyTheme(theme: Theme): void {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem('centram.theme', theme);
  } catch {
    // Without storage the page starts in the system's theme.
  }
}
