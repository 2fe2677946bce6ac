// Markdown to HTML that is safe to show, block by block. The text comes from a model, which may repeat what a hostile
// page told it, so nothing in it may run, load or look like a part of the page.
import DOMPurify from 'dompurify';
import { Marked, type Token } from 'marked';
import { highlight } from './highlight.svelte';

const marked = new Marked({
  gfm: true,
  renderer: {
    code({ text, lang }) {
      const name = /^[\w+#.-]+/.exec(lang ?? '')?.[0] ?? '';
      const label = name ? ` data-lang="${escape(name)}"` : '';
      return `<pre${label}><code>${highlight(text, name) ?? escape(text)}</code></pre>\n`;
    },
    // The page's own headings are h1 and h2.
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + 2);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
    html: ({ text, block }) => (block ? `<p>${withFewTags(text)}</p>\n` : withFewTags(text)),
    checkbox: ({ checked }) => (checked ? '☑ ' : '☐ '),
  },
});

const allowed = {
  ALLOWED_TAGS: (
    'a b blockquote br code del em h3 h4 h5 h6 hr i img ins kbd li mark ol p pre s span strong sub sup ' +
    'table tbody td th thead tr u ul'
  ).split(' '),
  ALLOWED_ATTR: 'align alt colspan data-hl data-lang dir href lang rowspan src start title'.split(' '),
  // DOMPurify holds every other attribute against the pattern of addresses too.
  ADD_URI_SAFE_ATTR: 'align colspan data-hl data-lang dir lang rowspan start'.split(' '),
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};

// withFewTags shows HTML as the text that it is, because a tag that vanishes takes a part of the answer with it. A few
// bare tags that models write for the eye do what they say.
function withFewTags(text: string): string {
  return escape(text).replace(/&#60;(\/?(?:b|br|del|em|i|ins|kbd|mark|s|strong|sub|sup|u)) *\/?&#62;/gi, '<$1>');
}

// Blocks is a text cut into the blocks of its Markdown. When text is appended only what follows the last finished block
// is read again.
export class Blocks {
  #closed: string[] = [];
  #text = '';
  #offset = 0; // where the open block begins

  // update returns the source of each block of text; the last one may still grow.
  update(text: string): string[] {
    if (!text.startsWith(this.#text.slice(0, this.#offset))) {
      this.#closed = [];
      this.#offset = 0;
    }
    this.#text = text;
    const tail = text.slice(this.#offset);
    const sources = group(marked.lexer(tail));
    // marked normalises line ends, so that lengths are those of the text only when there was nothing to normalise.
    if (!tail.includes('\r')) {
      for (const source of sources.slice(0, -1)) {
        this.#closed.push(source);
        this.#offset += source.length;
      }
      return [...this.#closed, ...sources.slice(-1)];
    }
    return [...this.#closed, ...sources];
  }
}

// group puts the blank lines to the block before them.
function group(tokens: Token[]): string[] {
  const sources: string[] = [];
  for (const token of tokens) {
    if (token.type === 'space' && sources.length) sources[sources.length - 1] += token.raw;
    else sources.push(token.raw);
  }
  return sources;
}

export interface Labels {
  copy: string;
  image: string;
  code: string;
}

// render turns one block into HTML, with a header and a button on each piece of code.
export function render(source: string, labels: Labels): string {
  const dirty = marked.parse(source, { async: false });
  const fragment = DOMPurify.sanitize(dirty, { ...allowed, RETURN_DOM_FRAGMENT: true });
  for (const link of fragment.querySelectorAll('a')) outbound(link);
  for (const image of fragment.querySelectorAll('img')) atHome(image, labels);
  for (const pre of fragment.querySelectorAll('pre')) frame(pre, labels);
  for (const table of fragment.querySelectorAll('table')) scrollable(table);
  const box = fragment.ownerDocument.createElement('div');
  box.append(fragment);
  return box.innerHTML;
}

function outbound(link: HTMLAnchorElement): void {
  link.target = '_blank';
  link.rel = 'noopener noreferrer nofollow';
}

// atHome makes a link of a picture that lies elsewhere: showing it would tell its server who reads this chat.
function atHome(image: HTMLImageElement, labels: Labels): void {
  const source = image.getAttribute('src') ?? '';
  if (source.startsWith('data:')) return;
  const link = image.ownerDocument.createElement('a');
  link.href = source;
  link.textContent = `${labels.image}: ${image.alt || source}`;
  outbound(link);
  image.replaceWith(link);
}

function frame(pre: HTMLPreElement, labels: Labels): void {
  const document = pre.ownerDocument;
  const make = (tag: string, name: string) => {
    const element = document.createElement(tag);
    element.className = name;
    return element;
  };
  for (const span of pre.querySelectorAll('[data-hl]')) {
    const name = span.getAttribute('data-hl') ?? '';
    span.removeAttribute('data-hl');
    if (/^hljs-[\w -]+$/.test(name)) span.className = name;
  }
  const language = pre.getAttribute('data-lang') || labels.code;
  const box = make('div', 'code');
  const head = make('div', 'code-head');
  const name = make('span', 'code-lang');
  name.textContent = language;
  const button = make('button', 'code-copy');
  button.setAttribute('type', 'button');
  button.setAttribute('data-copy', '');
  button.textContent = labels.copy;
  head.append(name, button);
  pre.replaceWith(box);
  pre.tabIndex = 0;
  pre.setAttribute('role', 'region');
  pre.setAttribute('aria-label', language);
  pre.dir = 'ltr';
  box.append(head, pre);
}

function scrollable(table: HTMLTableElement): void {
  const box = table.ownerDocument.createElement('div');
  box.className = 'table';
  box.tabIndex = 0;
  table.replaceWith(box);
  box.append(table);
}

export function escape(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
