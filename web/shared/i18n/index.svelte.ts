// The language of the page. i18n.t is reactive: what shows its words changes with the language.
import { de } from './de';
import { en, type Dictionary } from './en';

export const dictionaries = { en, de } satisfies Record<string, Dictionary>;

export type Language = keyof typeof dictionaries;

// Each language in its own name, which is the same in every dictionary.
export const languageNames: Record<Language, string> = { en: 'English', de: 'Deutsch' };

class I18n {
  language = $state<Language>('en');

  get t(): Dictionary {
    return dictionaries[this.language];
  }

  // choose takes a language of the settings; empty means the browser's.
  choose(wanted: string): void {
    this.language = pick(wanted ? [wanted] : navigator.languages);
    document.documentElement.lang = this.language;
  }

  number(n: number, digits = 0): string {
    return n.toLocaleString(this.language, { maximumFractionDigits: digits, minimumFractionDigits: digits });
  }

  percent(share: number): string {
    return share.toLocaleString(this.language, { style: 'percent', maximumFractionDigits: 0 });
  }

  compact(n: number): string {
    return n.toLocaleString(this.language, { notation: 'compact', maximumFractionDigits: 1 });
  }

  date(iso: string): string {
    return new Date(iso).toLocaleString(this.language, { dateStyle: 'medium', timeStyle: 'short' });
  }

  // duration is about how long it takes, in the unit that says it best.
  duration(seconds: number): string {
    const [n, unit] = seconds < 90 ? [seconds, 'second'] : seconds < 5400 ? [seconds / 60, 'minute'] : [seconds / 3600, 'hour'];
    const digits = unit === 'hour' && n < 10 ? 1 : 0;
    return n.toLocaleString(this.language, { style: 'unit', unit, unitDisplay: 'long', maximumFractionDigits: digits });
  }

  bytes(n: number): string {
    const [unit, size] = n >= 1e9 ? ['gigabyte', 1e9] : n >= 1e6 ? ['megabyte', 1e6] : ['kilobyte', 1e3];
    const maximumFractionDigits = n / size < 100 && n >= 1e6 ? 1 : 0;
    return (n / size).toLocaleString(this.language, { style: 'unit', unit, maximumFractionDigits });
  }
}

// pick returns the first language of wishes that there is, by its primary tag, and English if there is none.
export function pick(wishes: readonly string[]): Language {
  const known = wishes.map((w) => w.toLowerCase().split('-')[0] ?? '').find((w) => Object.hasOwn(dictionaries, w));
  return (known ?? 'en') as Language;
}

export const i18n = new I18n();
