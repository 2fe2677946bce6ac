// A chat as a file: Markdown of what is shown, or JSON of everything.
import type { Chat, Message } from '../../shared/types';

export interface Names {
  untitled: string;
  user: string;
  assistant: string;
  system: string;
}

export function toMarkdown(chat: Chat, path: readonly Message[], names: Names): string {
  const parts = [`# ${chat.title || names.untitled}`];
  if (chat.system) parts.push(`## ${names.system}`, chat.system);
  for (const message of path) {
    const who = message.role === 'user' ? names.user : message.model || names.assistant;
    parts.push(`## ${who}`, message.content.trim());
  }
  return `${parts.join('\n\n')}\n`;
}

export function toJson(chat: Chat): string {
  return `${JSON.stringify(chat, null, 2)}\n`;
}

// fileName keeps letters and digits of any script.
export function fileName(title: string, fallback: string, extension: string): string {
  const name = title.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-+|-+$/g, '').slice(0, 60);
  return `${name || fallback}.${extension}`;
}

export function save(name: string, type: string, content: BlobPart): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
