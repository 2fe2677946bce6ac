// A browser that notes everything a page must not do, and helpers to look at the page with.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const flags =
  '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync';
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: flags.split(' ') });
}

// open returns a page and the list of its offences: requests elsewhere, errors, and what the security policy stopped.
export async function open(browser, origin, options = {}) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 860 },
    locale: 'en-US',
    permissions: ['clipboard-read', 'clipboard-write'],
    bypassCSP: false,
    ...options,
  });
  const offences = [];
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (url.origin !== origin && !['data:', 'blob:'].includes(url.protocol)) offences.push(`request to ${url}`);
  });
  const page = await context.newPage();
  page.on('pageerror', (error) => offences.push(`error: ${error.message}`));
  page.on('console', (message) => {
    const expected = /Failed to load resource/.test(message.text()); // an answer of the daemon that says no
    if (message.type() === 'error' && !expected) offences.push(`console: ${message.text()}`);
  });
  page.on('crash', () => offences.push('the page crashed'));
  await page.addInitScript(recordStreams);
  return { page, offences };
}

// recordStreams keeps what the daemon sent of each answer, to compare with what it stored.
function recordStreams() {
  const original = window.fetch;
  window.streams = [];
  window.fetch = async (input, init) => {
    const response = await original(input, init);
    const match = /messages\/([^/]+)\/stream\?from=(\d+)/.exec(String(input));
    if (!match || !response.body) return response;
    const record = { message: match[1], from: Number(match[2]), sent: '' };
    window.streams.push(record);
    const decoder = new TextDecoder();
    const tap = new TransformStream({
      transform(chunk, controller) {
        record.sent += decoder.decode(chunk, { stream: true });
        controller.enqueue(chunk);
      },
    });
    return new Response(response.body.pipeThrough(tap), { status: response.status, headers: response.headers });
  };
}

// accessible fails with what axe finds, in both themes.
export async function accessible(page, what) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await page.waitForTimeout(100);
    // Evaluated by the debugger and not as a script element, which the security policy would refuse.
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() =>
      window.axe.run(document, {
        runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
        rules: { 'heading-order': { enabled: false } }, // a model skips levels as it likes
      }),
    );
    if (violations.length === 0) continue;
    const lines = violations.map((v) => {
      const nodes = v.nodes.slice(0, 3).map((n) => `      ${n.html.slice(0, 160)}\n      ${n.failureSummary}`);
      return `    ${v.id}: ${v.help}\n${nodes.join('\n')}`;
    });
    throw new Error(`${what}, ${colorScheme}:\n${lines.join('\n')}`);
  }
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'no-preference' });
}

// noSideways fails if anything is wider than the window, or than the sidebar that it is in, also when it has settled.
export async function noSideways(page, what) {
  let wide, width, out;
  for (let attempt = 0; attempt < 20; attempt++) {
    [wide, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    out = await page.evaluate(() => {
      const end = (e) => e.closest('aside')?.getBoundingClientRect().right ?? innerWidth;
      const fits = (e) => e.getBoundingClientRect().right <= end(e) + 1 || e.closest('pre, .table, .unseen, [popover]');
      return [...document.querySelectorAll('aside *, main *, dialog[open] *')].filter((e) => !fits(e)).map((e) => e.outerHTML.slice(0, 120));
    });
    if (wide <= width && !out.length) return;
    await page.waitForTimeout(100);
  }
  throw new Error(`${what} is ${wide} px wide in ${width} px\n${out.slice(0, 3).join('\n')}`);
}
