// One message as the page shows it: what the daemon stored, and while it is written, how far it is.
import type { Message, MessageState, Problem, Stats } from '../../shared/types';
import type { Phase } from '../lib/stream';

export class LiveMessage {
  readonly id: string;
  readonly parent: string;
  readonly role: Message['role'];
  readonly createdAt: string;
  content = $state('');
  state = $state<MessageState>('done');
  phase = $state.raw<Phase>();
  error = $state.raw<Problem>();
  stats = $state.raw<Stats>();
  model = $state('');

  constructor(m: Message) {
    this.id = m.id;
    this.parent = m.parent;
    this.role = m.role;
    this.createdAt = m.created_at;
    this.update(m);
  }

  get generating(): boolean {
    return this.state === 'generating';
  }

  update(m: Message): void {
    this.content = m.content;
    this.state = m.state;
    this.error = m.error;
    this.stats = m.stats;
    this.model = m.model ?? '';
    this.phase = undefined;
  }

  plain(): Message {
    const { id, parent, role, content, state, error, model, createdAt, stats } = this;
    return { id, parent, role, content, state, error, model, created_at: createdAt, stats };
  }
}
