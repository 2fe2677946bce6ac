// What the daemon's REST interface sends and takes, field by field.

export interface Sampling {
  temperature?: number;
  top_k?: number;
  top_p?: number;
  min_p?: number;
  repeat_penalty?: number;
  max_tokens?: number;
  seed?: number;
}

export type Theme = 'system' | 'light' | 'dark';

export interface Settings {
  default_model: string;
  system: string;
  sampling: Sampling;
  language: string;
  theme: Theme;
}

export interface Model {
  name: string;
  path: string;
  size_bytes: number;
  architecture: string;
  parameters: number;
  layers: number;
  embedding: number;
  context: number;
  quantization: string;
  chat_template: boolean;
  state: 'ready' | 'missing' | 'failed';
  error?: string;
  built_in?: boolean; // it came with Centram and is a toy
  loaded: boolean;
  loading?: number;
  imported_at: string;
  adapters?: Adapter[];
  base?: string; // what a page adds to a model with an adapter: the name of the model alone
}

// Adapter is what a model can be used with, by the name in model.
export interface Adapter {
  model: string;
  size_bytes: number;
  state: 'ready' | 'missing' | 'failed';
  error?: string;
}

export interface ChatSummary {
  id: string;
  title: string;
  model: string;
  created_at: string;
  updated_at: string;
  snippet?: string;
}

export interface Chat extends ChatSummary {
  system: string;
  sampling: Sampling;
  head: string;
  messages?: Message[];
}

export type ChatPatch = Partial<Pick<Chat, 'title' | 'model' | 'system' | 'sampling' | 'head'>>;

export type Role = 'user' | 'assistant';
export type MessageState = 'generating' | 'done' | 'stopped' | 'failed' | 'interrupted';

export interface Problem {
  code: string;
  message: string;
  hint?: string;
}

export interface Stats {
  prompt_tokens: number;
  cached_tokens: number;
  generated_tokens: number;
  prompt_ms: number;
  generate_ms: number;
  tokens_per_second: number;
  context_size: number;
  finish?: 'stop' | 'length';
}

export interface Message {
  id: string;
  parent: string;
  role: Role;
  content: string;
  state: MessageState;
  error?: Problem;
  model?: string;
  created_at: string;
  stats?: Stats;
}

export type TrainingState = 'queued' | 'running' | 'paused' | 'done' | 'failed' | 'cancelled';

export interface Point {
  step: number;
  loss: number;
}

export interface Training {
  id: string;
  name: string;
  model: string;
  adapted_model: string;
  about: string;
  state: TrainingState;
  error?: Problem;
  stage?: 'reading' | 'before' | 'train' | 'after' | 'done';
  step: number;
  steps: number;
  loss?: number;
  held_out_before?: number;
  held_out_after?: number;
  tokens_per_second?: number;
  seconds_left?: number;
  memory_bytes?: number;
  curve?: Point[];
  created_at: string;
  ended_at?: string;
}

export interface TrainingDraft {
  model: string;
  name: string;
  data: { paths?: string[]; text?: string; uploads?: string[]; chat?: string };
  rank?: number;
  targets?: string;
  steps?: number;
  learning_rate?: number;
}

export type OfferKind = 'chat' | 'code' | 'vision' | 'test';

export interface License {
  id: string;
  title: string;
  url: string;
  commercial: boolean; // it may be used to earn money
}

// Offer is a model that can be downloaded.
export interface Offer {
  name: string;
  title: string;
  kind: OfferKind;
  parameters: string;
  quantization: string;
  size_bytes: number;
  memory_bytes: number;
  draft?: string;
  repo: string;
  license: License & { agreed: boolean };
  unsupported?: string; // why it cannot be run
  here: boolean;
}

export type DownloadState = 'queued' | 'running' | 'paused' | 'ready' | 'failed' | 'cancelled';

export interface Download {
  name: string;
  title?: string;
  state: DownloadState;
  stage?: 'downloading' | 'verifying';
  done_bytes: number;
  total_bytes: number;
  bytes_per_second?: number;
  seconds_left?: number;
  model?: string; // its name in the list of models, once it is ready
  error?: Problem;
  began_at: string;
}

export interface Version {
  version: string;
  commit: string;
  llama: string;
  backend: string;
  go: string;
}

// Daemon events, by name.
export interface ModelEvent {
  name: string;
  change: 'imported' | 'deleted' | 'loading' | 'loaded' | 'unloaded' | 'failed';
  progress?: number;
  error?: unknown;
}

export interface ChatEvent {
  id: string;
  change: 'created' | 'updated' | 'deleted';
}

export interface MessageEventData {
  chat: string;
  id: string;
  state: MessageState;
}
