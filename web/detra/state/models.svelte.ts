// The models that the daemon knows, and what they are doing.
import { api } from '../../shared/api';
import type { Model, ModelEvent } from '../../shared/types';
import { settings } from './settings.svelte';

class ModelsState {
  list = $state.raw<Model[]>([]);
  known = $state(false); // false until the list was read once

  async load(): Promise<void> {
    this.list = await api.models();
    this.known = true;
  }

  // standard is the model of a chat that names none. What came with Centram answers if there is nobody else.
  get standard(): Model | undefined {
    const ready = this.list.filter((m) => m.state === 'ready');
    return this.find(settings.value.default_model) ?? ready.find((m) => !m.built_in) ?? ready[0];
  }

  find(name: string): Model | undefined {
    return this.list.find((m) => m.name === name);
  }

  // of is the model that answers in a chat: its own, or the default. A chat's own model may be gone.
  of(name: string): Model | undefined {
    return name ? this.find(name) : this.standard;
  }

  async import(path: string, name: string): Promise<Model> {
    const model = await api.importModel(path, name);
    this.#replace(model);
    return model;
  }

  async keep(name: string, loaded: boolean): Promise<void> {
    this.#replace(loaded ? await api.loadModel(name) : await api.unloadModel(name));
  }

  // hear follows progress without asking again; any other change is worth a look at the list.
  hear(event: ModelEvent): void {
    const model = this.find(event.name);
    if (model && event.change === 'loading') this.#replace({ ...model, loading: event.progress ?? 0 });
    else this.load().catch(() => {});
  }

  #replace(model: Model): void {
    const others = this.list.filter((m) => m.name !== model.name);
    this.list = [...others, model].sort((a, b) => a.name.localeCompare(b.name));
  }
}

export const models = new ModelsState();
