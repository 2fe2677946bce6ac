import { mount } from 'svelte';
import '../shared/tokens.css';
import './prose.css';
import { connection } from '../shared/connection.svelte';
import type { ChatEvent, Download, MessageEventData, ModelEvent, Training } from '../shared/types';
import App from './App.svelte';
import { finishDeleting } from './state/actions';
import { chat } from './state/chat.svelte';
import { chats } from './state/chats.svelte';
import { downloads } from './state/downloads.svelte';
import { models } from './state/models.svelte';
import { notices } from './state/notices.svelte';
import { trainings } from './state/trainings.svelte';
import { page } from './state/page.svelte';
import { settings } from './state/settings.svelte';
import { i18n } from '../shared/i18n/index.svelte';

i18n.choose('');
page.start();
chat.created = (id) => page.adopt(id);
addEventListener('pagehide', finishDeleting);

// Whenever the stream of events begins, anything may have changed before it.
connection.on('open', () => {
  for (const load of [settings.load(), models.load(), chats.load(), trainings.load(), downloads.load()]) load.catch(() => {});
  if (chat.ready) chat.refresh();
});
connection.on('model', (e) => models.hear(e as ModelEvent));
connection.on('chat', (e) => {
  const { id, change } = e as ChatEvent;
  chats.hear();
  if (change !== 'deleted' || id !== page.chatId) return;
  page.go('');
  notices.say({ text: i18n.t.chatGone });
});
connection.on('training', (e) => trainings.hear(e as Training));
connection.on('download', (e) => downloads.hear(e as Download));
connection.on('message', (e) => chat.hear(e as MessageEventData));
connection.start();

mount(App, { target: document.getElementById('app')! });
