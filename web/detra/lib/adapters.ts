// A model is one entry of the list, and with each of its adapters it is one more.
import type { Model } from '../../shared/types';

export function withAdapters(model: Model): Model[] {
  const own = (model.adapters ?? []).map((a) => ({
    ...model,
    name: a.model,
    base: model.name,
    size_bytes: model.size_bytes + a.size_bytes,
    state: a.state,
    error: a.error,
  }));
  return [model, ...own];
}

// mixed is the model of a name that asks for several adapters or parts of them, such as a:b+c@0.5: these are in no list.
export function mixed(name: string, list: Model[]): Model | undefined {
  const base = name.slice(0, Math.max(0, name.lastIndexOf(':')));
  const model = /[+@]/.test(name.slice(base.length)) ? list.find((m) => m.name === base) : undefined;
  return model && { ...model, name, base };
}
