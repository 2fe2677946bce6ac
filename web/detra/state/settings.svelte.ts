// The settings of the daemon: what holds for every chat, and how the page looks.
import { api } from '../../shared/api';
import { i18n } from '../../shared/i18n/index.svelte';
import { applyTheme } from '../../shared/theme';
import type { Settings } from '../../shared/types';

class SettingsState {
  value = $state.raw<Settings>({ default_model: '', system: '', sampling: {}, language: '', theme: 'system' });

  async load(): Promise<void> {
    this.#take(await api.settings());
  }

  // change shows at once what it saves, and takes it back if the daemon refuses.
  async change(patch: Partial<Settings>): Promise<void> {
    const before = this.value;
    this.#take({ ...before, ...patch });
    try {
      this.#take(await api.saveSettings(this.value));
    } catch (e) {
      this.#take(before);
      throw e;
    }
  }

  #take(settings: Settings): void {
    this.value = { ...settings, sampling: settings.sampling ?? {} };
    i18n.choose(settings.language);
    applyTheme(settings.theme || 'system');
  }
}

export const settings = new SettingsState();
