// The daemon's REST interface. Nothing else in the apps calls fetch.
import type {
  Chat, ChatPatch, ChatSummary, Download, Message, Model, Offer, Problem, Settings, Training, TrainingDraft, Version,
} from './types';

// ApiError is an answer of the daemon that says no, in its words.
export class ApiError extends Error implements Problem {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint = '',
    readonly details: Record<string, unknown> = {},
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

// Unreachable means that no daemon answered.
export class Unreachable extends Error {
  readonly code = 'unreachable';
  constructor(cause: unknown) {
    super('unreachable', { cause });
    this.name = 'Unreachable';
  }
}

interface Options {
  body?: unknown; // a Blob is sent as it is, everything else as JSON
  signal?: AbortSignal;
  keepalive?: boolean; // outlives the page
}

const base = '/api/v1';
let token: Promise<string> | undefined;
let reached: (ok: boolean) => void = () => {};

// onReach is told after every request whether the daemon answered it.
export function onReach(tell: (ok: boolean) => void): void {
  reached = tell;
}

export const api = {
  version: () => json<Version>('GET', '/version'),
  settings: () => json<Settings>('GET', '/settings'),
  saveSettings: (s: Settings) => json<Settings>('PUT', '/settings', { body: s }),

  models: async () => (await json<{ models: Model[] | null }>('GET', '/models')).models ?? [],
  importModel: (path: string, name: string) =>
    json<Model>('POST', '/models/import', { body: name ? { path, name } : { path } }),
  deleteModel: (name: string) => json<void>('DELETE', `/models/${part(name)}`),
  loadModel: (name: string) => json<Model>('POST', `/models/${part(name)}/load`, { body: {} }),
  unloadModel: (name: string) => json<Model>('POST', `/models/${part(name)}/unload`, { body: {} }),

  offers: async () => (await json<{ models: Offer[] | null }>('GET', '/catalogue')).models ?? [],
  downloads: async () => (await json<{ downloads: Download[] | null }>('GET', '/downloads')).downloads ?? [],
  download: (model: string, accept: boolean) =>
    json<Download>('POST', '/downloads', { body: accept ? { model, accept_license: true } : { model } }),
  pauseDownload: (name: string) => json<Download>('POST', `/downloads/${part(name)}/pause`, { body: {} }),
  resumeDownload: (name: string) => json<Download>('POST', `/downloads/${part(name)}/resume`, { body: {} }),
  deleteDownload: (name: string) => json<void>('DELETE', `/downloads/${part(name)}`),

  chats: (query: { q?: string; before?: string; limit?: number }, signal?: AbortSignal) =>
    json<{ chats: ChatSummary[] | null; more: boolean }>('GET', `/chats${search(query)}`, { signal }),
  chat: (id: string, signal?: AbortSignal) => json<Chat>('GET', `/chats/${part(id)}`, { signal }),
  createChat: (draft: Partial<Chat>) => json<Chat>('POST', '/chats', { body: draft }),
  patchChat: (id: string, patch: ChatPatch) => json<Chat>('PATCH', `/chats/${part(id)}`, { body: patch }),
  deleteChat: (id: string, keepalive = false) => json<void>('DELETE', `/chats/${part(id)}`, { keepalive }),

  ask: (chat: string, parent: string, content: string) =>
    json<{ user: Message; assistant: Message }>('POST', `/chats/${part(chat)}/messages`, { body: { parent, content } }),
  regenerate: (chat: string, message: string) => act(chat, message, 'regenerate'),
  continue: (chat: string, message: string) => act(chat, message, 'continue'),
  stop: (chat: string, message: string) => act(chat, message, 'stop'),

  trainings: async () => (await json<{ trainings: Training[] | null }>('GET', '/trainings')).trainings ?? [],
  training: (id: string) => json<Training>('GET', `/trainings/${part(id)}`),
  teach: (draft: TrainingDraft) => json<Training>('POST', '/trainings', { body: draft }),
  pauseTraining: (id: string) => json<Training>('POST', `/trainings/${part(id)}/pause`, { body: {} }),
  resumeTraining: (id: string) => json<Training>('POST', `/trainings/${part(id)}/resume`, { body: {} }),
  deleteTraining: (id: string) => json<void>('DELETE', `/trainings/${part(id)}`),
  adapter: async (id: string) => (await authorized('GET', `/trainings/${part(id)}/adapter`, {})).blob(),
  uploadTrainingFile: (file: File) =>
    json<{ id: string }>('POST', `/training-files${search({ name: file.name })}`, { body: file }),

  answer: (chat: string, message: string, from: number, signal: AbortSignal) =>
    stream(`/chats/${part(chat)}/messages/${part(message)}/stream?from=${from}`, signal),
  events: (signal: AbortSignal) => stream('/events', signal),
};

function act(chat: string, message: string, verb: string): Promise<Message> {
  return json('POST', `/chats/${part(chat)}/messages/${part(message)}/${verb}`, { body: {} });
}

const part = encodeURIComponent;

function search(query: Record<string, string | number | undefined>): string {
  const set = Object.entries(query).filter(([, v]) => v !== undefined && v !== '');
  return set.length ? `?${new URLSearchParams(set.map(([k, v]) => [k, String(v)]))}` : '';
}

async function json<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const response = await authorized(method, path, options);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

async function stream(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
  const response = await authorized('GET', path, { signal });
  if (!response.body) throw new Unreachable(new Error('empty answer'));
  return response.body;
}

// authorized asks for a page token when there is none, and once more when it has run out.
async function authorized(method: string, path: string, options: Options): Promise<Response> {
  token ??= openSession();
  const used = token;
  let response: Response;
  try {
    response = await send(method, path, options, await used);
  } catch (e) {
    if (e instanceof Unreachable && token === used) await used.catch(() => (token = undefined));
    throw e;
  }
  if (response.status === 401) {
    if (token === used) token = openSession();
    response = await send(method, path, options, await token!);
  }
  if (!response.ok) throw await toError(response);
  return response;
}

async function openSession(): Promise<string> {
  try {
    const response = await send('POST', '/session', { body: {} });
    if (!response.ok) throw await toError(response);
    return ((await response.json()) as { token: string }).token;
  } catch (e) {
    token = undefined;
    throw e;
  }
}

async function send(method: string, path: string, options: Options, bearer?: string): Promise<Response> {
  const headers: Record<string, string> = {};
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  const blob = options.body instanceof Blob ? options.body : undefined;
  if (options.body !== undefined) headers['Content-Type'] = blob ? 'application/octet-stream' : 'application/json';
  try {
    const response = await fetch(base + path, {
      method,
      headers,
      body: blob ?? (options.body === undefined ? undefined : JSON.stringify(options.body)),
      signal: options.signal,
      keepalive: options.keepalive,
      cache: 'no-store',
    });
    reached(true);
    return response;
  } catch (e) {
    if (options.signal?.aborted) throw e;
    reached(false);
    throw new Unreachable(e);
  }
}

// toError reads the daemon's error, or makes one of an answer that is not the daemon's, as a proxy's would be.
export async function toError(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => '');
  try {
    const { error } = JSON.parse(text) as { error: Partial<ApiError> };
    if (typeof error.message !== 'string') throw new Error('no message');
    return new ApiError(response.status, error.code ?? 'internal', error.message, error.hint, error.details);
  } catch {
    return new ApiError(response.status, 'internal', `${response.status} ${response.statusText}`.trim());
  }
}
