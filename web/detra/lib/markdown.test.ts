// @vitest-environment jsdom
import { describe, expect, it } from 'vitest';
import { Blocks, render } from './markdown';

const labels = { copy: 'Copy', image: 'Image', code: 'code' };
const html = (source: string) => render(source, labels);

function dom(source: string): HTMLElement {
  const box = document.createElement('div');
  box.innerHTML = html(source);
  return box;
}

const hostile = [
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(1)>',
  '<img src="https://evil.example/pixel.png">',
  '![pixel](https://evil.example/pixel.png)',
  '![pixel](//evil.example/pixel.png)',
  '<svg onload=alert(1)><script>alert(1)</script></svg>',
  '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
  '<iframe src="javascript:alert(1)"></iframe>',
  '[x](javascript:alert(1))',
  '[x](JaVaScRiPt:alert(1))',
  '[x](data:text/html,<script>alert(1)</script>)',
  '<a href="java&#10;script:alert(1)">x</a>',
  '<form action="https://evil.example"><input name=token><button>Go</button></form>',
  '<style>body{display:none}</style>',
  '<div style="position:fixed;inset:0">over the page</div>',
  '<div class="code-copy composer" id="composer">like the page</div>',
  '<link rel=stylesheet href=https://evil.example/x.css>',
  '<meta http-equiv=refresh content="0;url=https://evil.example">',
  '<base href="https://evil.example">',
  '<video src="https://evil.example/v" autoplay></video><audio src=x></audio>',
  '<object data=x></object><embed src=x>',
  '```"><img src=x onerror=alert(1)>\ncode\n```',
  '```html\n<script>alert(1)</script>\n```',
  '<details open ontoggle=alert(1)>x</details>',
  '<a href="https://a.example" target=_self onclick=alert(1)>x</a>',
  '<p data-copy autofocus tabindex=0 contenteditable popover>x</p>',
  '<input type=checkbox onfocus=alert(1) autofocus>',
  '<span data-hl="icon-button x">y</span>',
];

describe('hostile Markdown', () => {
  it.each(hostile)('does nothing: %s', (source) => {
    const box = dom(source);
    const forbidden =
      'script,style,svg,math,iframe,object,embed,form,input,textarea,select,link,meta,base,video,audio,source,dialog,[style],[id],[name],[contenteditable],[popover],[autofocus]';
    expect(box.querySelectorAll(forbidden)).toHaveLength(0);
    for (const element of box.querySelectorAll('*')) {
      for (const { name, value } of element.attributes) {
        expect(name).not.toMatch(/^on/);
        expect(value).not.toMatch(/^\s*(javascript|vbscript|data:text)/i);
      }
    }
    for (const image of box.querySelectorAll('img')) expect(image.getAttribute('src') ?? '').toMatch(/^(data:|$)/);
    for (const link of box.querySelectorAll('a[href]')) expect(link.getAttribute('rel')).toContain('noopener');
    for (const button of box.querySelectorAll('button')) expect(button.closest('.code')).not.toBeNull();
    for (const named of box.querySelectorAll('[class]')) {
      expect(named.className).toMatch(/^(code|code-head|code-lang|code-copy|table|hljs-[\w -]+)$/);
    }
  });

  it('shows code as text', () => {
    expect(dom('```html\n<script>alert(1)</script>\n```').querySelector('code')?.textContent).toBe('<script>alert(1)</script>');
  });
});

describe('Markdown', () => {
  it('shows tags as text, but for a few bare ones', () => {
    expect(dom('Use <div id="x"> and <think>.').textContent?.trim()).toBe('Use <div id="x"> and <think>.');
    expect(dom('<!-- note -->\n\nText').textContent).toContain('<!-- note -->');
    expect(html('H<sub>2</sub>O<br/>x')).toContain('H<sub>2</sub>O<br>x');
    expect(dom('<b onclick=alert(1)>x</b>').textContent?.trim()).toBe('<b onclick=alert(1)>x');
  });

  it('gives code its language and a button', () => {
    const box = dom('- item\n\n  ```go\n  x := 1\n  ```');
    expect(box.querySelector('.code-lang')?.textContent).toBe('go');
    expect(box.querySelector('button[data-copy]')?.textContent).toBe('Copy');
    expect(box.querySelector('pre')?.tabIndex).toBe(0);
  });

  it('makes a link of a picture that lies elsewhere', () => {
    const link = dom('![a cat](https://cats.example/1.png)').querySelector('a');
    expect(link?.textContent).toBe('Image: a cat');
    expect(link?.href).toBe('https://cats.example/1.png');
  });

  it('keeps a picture that is in the text', () => {
    expect(dom('![dot](data:image/png;base64,iVBORw0KGgo=)').querySelector('img')?.alt).toBe('dot');
  });

  it('puts headings below those of the page', () => {
    expect(html('# One')).toContain('<h3>One</h3>');
    expect(html('###### Six')).toContain('<h6>');
  });

  it('aligns columns', () => {
    expect(dom('| a |\n|--:|\n| 1 |').querySelector('td')?.getAttribute('align')).toBe('right');
  });
});

const text = `# Title

A paragraph that
runs on.

- one
- two

  still two

1. first

\`\`\`js
let x = 1;

let y = 2;
\`\`\`
> quoted
lazily

| a | b |
|---|---|
| 1 | 2 |

Setext
------

End with 😀.`;

describe('blocks', () => {
  it('are the same however the text arrived', () => {
    const whole = new Blocks().update(text);
    expect(whole.join('')).toBe(text);
    for (const step of [1, 2, 3, 7, 50]) {
      const blocks = new Blocks();
      let last: string[] = [];
      for (let end = step; end < text.length + step; end += step) last = blocks.update(text.slice(0, end));
      expect(last.map((b) => html(b)), `in steps of ${step}`).toEqual(whole.map((b) => html(b)));
    }
  });

  it('begin anew with another text', () => {
    const blocks = new Blocks();
    blocks.update(text);
    expect(blocks.update('Other.\n\nText.')).toEqual(['Other.\n\n', 'Text.']);
  });

  it('hold every line end', () => {
    expect(new Blocks().update('a\r\n\r\nb\r\n')).toHaveLength(2);
  });

  it('of a long text are read in time that grows with it', () => {
    const long = 'A sentence of some words.\n\n'.repeat(3000);
    const blocks = new Blocks();
    const start = performance.now();
    for (let end = 0; end <= long.length; end += 50) blocks.update(long.slice(0, end));
    expect(performance.now() - start).toBeLessThan(4000);
  });
});
