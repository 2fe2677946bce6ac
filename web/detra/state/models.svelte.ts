// The models that the daemon knows, each also with each of its adapters, and what they are doing.
import { api } from '../../shared/api';
import type { Model, ModelEvent } from '../../shared/types';
import { mixed, withAdapters } from '../lib/adapters';
import { settings } from './settings.svelte';

class ModelsState {
  list = $state.raw<Model[]>([]);
  known = $state(false); // false until the list was read once

  async load(): Promise<void> {
    this.list = (await api.models()).flatMap(withAdapters);
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
    return name ? (this.find(name) ?? mixed(name, this.list)) : this.standard;
  }

  async import(path: string, name: string): Promise<Model> {
    const model = await api.importModel(path, name);
    this.#replace(model);
    return model;
  }

  async keep(name: string, loaded: boolean): Promise<void> {
    await (loaded ? api.loadModel(name) : api.unloadModel(name));
    await this.load(); // with a model comes and goes what it is with each adapter
  }

  // hear follows progress without asking again; any other change is worth a look at the list.
  hear(event: ModelEvent): void {
    const loads = (m: Model) => m.name === event.name || m.base === event.name;
    if (event.change !== 'loading' || !this.list.some(loads)) {
      this.load().catch(() => {});
      return;
    }
    this.list = this.list.map((m) => (loads(m) ? { ...m, loading: event.progress ?? 0 } : m));
  }

  #replace(model: Model): void {
    const others = this.list.filter((m) => m.name !== model.name);
    this.list = [...others, model].sort((a, b) => a.name.localeCompare(b.name));
  }
}

export const models = new ModelsState();
