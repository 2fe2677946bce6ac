// Getting models on the page, from a hub that build/e2e starts. Each test goes on where the one before ended; the last one
// leaves the daemon as it was.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { accessible, noSideways } from './browser.mjs';
import { answers, chatId, composer, newChat, say, writing } from './steps.mjs';

const dialog = (page) => page.getByRole('dialog', { name: 'Models', exact: true });
const offer = (page, name) => page.locator(`[data-offer="${name}"]`);
const card = (page, name, state) => page.locator(`[data-download="${name}"]${state ? `[data-state=${state}]` : ''}`);
const focused = (page, selector) => page.waitForFunction((s) => document.activeElement?.matches(s), selector);
const named = async (daemon) => (await daemon.call('GET', '/downloads')).body.downloads.map((d) => d.name);

async function narrow(page, what) {
  await page.setViewportSize({ width: 320, height: 640 });
  await noSideways(page, what);
  await page.setViewportSize({ width: 1280, height: 860 });
}

// asked is the model that answers. Noise has no end worth waiting for.
async function asked(page, daemon) {
  await say(page, 'Who are you?');
  await writing(page);
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => !document.querySelector('article[data-state=generating]'));
  const { content, model } = await daemon.message(chatId(page), await answers(page).last().getAttribute('data-message'));
  assert.ok(content, 'it says something');
  return model;
}

// watch notes all that is shown and said of downloads from now on.
async function watch(page) {
  await page.evaluate(() => {
    window.shown = { values: [], texts: new Set(), said: [] };
    const look = () => {
      const bar = document.querySelector('[data-download] progress');
      if (bar) window.shown.values.push(bar.value);
      for (const e of document.querySelectorAll('.facts, .sign')) if (e.textContent.includes('%')) window.shown.texts.add(e.textContent.trim());
      const said = document.querySelector('[role=group] > [role=status]')?.textContent;
      if (said && said !== window.shown.said.at(-1)) window.shown.said.push(said);
    };
    new MutationObserver(look).observe(document.body, { childList: true, characterData: true, attributes: true, subtree: true });
  });
  return async () => {
    const { values, texts, said } = await page.evaluate(() => ({ ...window.shown, texts: [...window.shown.texts] }));
    assert.ok(values.length > 8, `progress is seen: ${values}`);
    assert.deepEqual(values, values.toSorted((a, b) => a - b), 'the bar never goes back');
    assert.deepEqual(texts.filter((t) => !/^Downloading \d+%$/.test(t)), [], 'a percentage has its noun');
    assert.ok(said.length > 2 && said.length <= 12, `the live region is quiet: ${said.join(' | ')}`);
  };
}

export const download = {
  async 'with the toy alone, models are offered first'({ page, origin }) {
    await page.goto(`${origin}/detra/`);
    await page.getByText('It is toy that answers').waitFor();
    await offer(page, 'qwen2.5-0.5b').getByText('Small and fast').waitFor();
    await offer(page, 'qwen2.5-0.5b').getByText(/^[\d.]+ MB to download · takes about \d+ MB of memory$/).waitFor();
    await offer(page, 'qwen2.5-1.5b').getByText('Recommended').waitFor();
    await offer(page, 'qwen2.5-7b').getByText(/4\.7 GB to download/).waitFor();
    await accessible(page, 'the page that offers models');
    await narrow(page, 'the page that offers models');
    await page.getByRole('button', { name: 'All models' }).click();
    await dialog(page).getByRole('button', { name: /^toy/ }).click(); // chosen, and not only for want of another
    await page.keyboard.press('Escape');
    await dialog(page).waitFor({ state: 'detached' });
  },

  async 'one is downloaded, with a pause, and answers'({ page, daemon }) {
    const verdict = await watch(page);
    const model = 'qwen2.5-0.5b';
    await offer(page, model).getByRole('button', { name: `Download ${model}` }).press('Enter');
    await focused(page, `[data-download="${model}"]`);
    await card(page, model).getByText(/^Downloading, [\d.]+ [kM]B of [\d.]+ MB/).waitFor();
    await card(page, model).getByText(/[kM]B\/s · about \d+ seconds? left$/).waitFor();
    await page.getByRole('button', { name: /^Noise in place of Qwen: Downloading \d+%$/ }).waitFor();
    await card(page, model).getByRole('button', { name: `Pause ${model}` }).press('Enter');
    await card(page, model, 'paused').getByText(/^Paused at [\d.]+ MB of [\d.]+ MB$/).waitFor();
    await focused(page, `[data-download="${model}"] button[aria-label="Resume ${model}"]`);
    await accessible(page, 'a download that is paused');
    await narrow(page, 'a download that is paused');
    await page.keyboard.press('Enter');
    await card(page, model, 'running').waitFor();
    await accessible(page, 'a download under way');
    await page.getByText('Noise in place of Qwen: Ready').waitFor({ timeout: 60_000 });
    await verdict();
    await page.getByRole('button', { name: `Model: ${model}.` }).waitFor();
    await focused(page, '#composer'); // which was on a button that is gone
    await page.getByRole('button', { name: 'Chat with it' }).click();
    await focused(page, '#composer');
    assert.equal(await asked(page, daemon), model);
  },

  async 'all that can be had is listed, and can be searched'({ page }) {
    await newChat(page);
    await page.keyboard.press('Control+.');
    await offer(page, 'qwen2.5-0.5b').getByText('Already here').waitFor();
    const names = await page.locator('[data-offer]').evaluateAll((all) => all.map((e) => e.dataset.offer));
    assert.deepEqual(names.slice(-3), ['stories260k', 'qwen2.5-vl-3b', 'qwen2.5-vl-7b'], 'what is of less use is last');
    await offer(page, 'qwen2.5-vl-7b').getByText('Cannot be run: Centram does not read pictures yet.').waitFor();
    assert.equal(await offer(page, 'qwen2.5-vl-7b').getByRole('button').count(), 0);
    await offer(page, 'qwen2.5-3b').getByText('Qwen Research License: must not be used to earn money').waitFor();
    assert.ok((await offer(page, 'qwen2.5-3b').getByRole('link').getAttribute('href')).startsWith('https://'));
    await accessible(page, 'the models to download');
    await narrow(page, 'the models to download');
    await dialog(page).getByRole('searchbox', { name: 'Search the models' }).fill('noise research');
    await dialog(page).getByText('1 model found').waitFor();
    assert.equal(await page.locator('[data-offer]').count(), 1);
  },

  async 'a licence is asked for, and can be refused'({ page, daemon }) {
    const name = 'noise-research';
    const button = offer(page, name).getByRole('button', { name: `Download ${name}` });
    await button.press('Enter');
    const step = page.getByRole('group', { name: /Qwen Research License.*must not be used to earn money/ });
    await step.waitFor();
    await focused(page, '[role=group]');
    await accessible(page, 'a licence');
    await narrow(page, 'a licence');
    await step.getByRole('button', { name: 'No' }).press('Enter');
    await step.waitFor({ state: 'detached' });
    await focused(page, `[aria-label="Download ${name}"]`);
    assert.ok(!(await named(daemon)).includes(name), 'nothing came without agreement');
    await page.keyboard.press('Enter');
    await step.getByRole('button', { name: 'I agree' }).press('Enter');
    await card(page, name, 'running').waitFor();
    await offer(page, name).getByText('Under way').waitFor();
  },

  async 'one that is cancelled disappears'({ page, daemon }) {
    const name = 'noise-research';
    await card(page, name).getByRole('button', { name: `Cancel ${name}` }).press('Enter');
    await card(page, name).waitFor({ state: 'detached' });
    assert.ok(!(await named(daemon)).includes(name));
    await focused(page, '[data-download]'); // the one that is left
    await offer(page, name).getByRole('button', { name: `Download ${name}` }).press('Enter');
    await card(page, name).waitFor(); // it was agreed to once
    await card(page, name).getByRole('button', { name: `Cancel ${name}` }).press('Enter');
    await card(page, name).waitFor({ state: 'detached' });
  },

  async 'one that fails says why, and can be tried again'({ page }) {
    const name = 'noise-gone';
    await dialog(page).getByRole('searchbox', { name: 'Search the models' }).fill('');
    await offer(page, name).getByRole('button', { name: `Download ${name}` }).click();
    await card(page, name, 'failed').getByRole('alert').waitFor();
    assert.ok((await card(page, name).getByRole('alert').innerText()).length > 10, 'the error has words');
    await accessible(page, 'a download that failed');
    await narrow(page, 'a download that failed');
    await card(page, name).getByRole('button', { name: `Try again: ${name}` }).press('Enter');
    await card(page, name, 'failed').getByRole('alert').waitFor();
    await card(page, name).getByRole('button', { name: `Remove ${name}` }).click();
    await card(page, name).waitFor({ state: 'detached' });
  },

  async 'any file of the hub comes by its address, seen from outside the dialog'({ page, daemon }) {
    const [address, name, model] = ['open/models/noise-research.F32.gguf', 'noise-research.f32', 'noise-research'];
    await dialog(page).getByLabel('Or a file of Hugging Face').fill('nowhere');
    await page.keyboard.press('Enter');
    await dialog(page).getByRole('alert').waitFor();
    await dialog(page).getByLabel('Or a file of Hugging Face').fill(address);
    await page.keyboard.press('Enter');
    await focused(page, `[data-download="${name}"]`);
    await page.keyboard.press('Escape');
    const sign = page.getByRole('button', { name: new RegExp(`^${name}: Downloading \\d+%$`) });
    await sign.waitFor();
    await page.setViewportSize({ width: 320, height: 640 });
    await noSideways(page, 'the sign of a download');
    await sign.click();
    await page.setViewportSize({ width: 1280, height: 860 });
    await card(page, name, 'ready').waitFor({ timeout: 60_000 });
    await accessible(page, 'a download that is ready');
    await card(page, name).getByRole('button', { name: `Chat with it: ${model}` }).press('Enter');
    await focused(page, '#composer');
    await page.getByRole('button', { name: `Model: ${model}.` }).waitFor(); // the catalogue knows the file
    assert.equal(await asked(page, daemon), model);
  },

  async 'what the command line downloads is chatted with on the page'({ page, daemon }) {
    const name = 'qwen2.5-0.5b';
    await daemon.call('DELETE', `/models/${name}?file=true`);
    const { stdout } = await promisify(execFile)('../bin/centram', ['model', 'download', name]);
    assert.equal(stdout.trim(), name);
    await newChat(page);
    await page.keyboard.press('Control+.');
    await dialog(page).getByRole('button', { name: new RegExp(`^${name}`) }).first().click();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: `Model: ${name}.` }).waitFor();
    assert.equal(await asked(page, daemon), name);
  },

  async 'the daemon is left as it was'({ page, daemon }) {
    await newChat(page);
    for (const m of await daemon.models()) if (!m.built_in) await daemon.call('DELETE', `/models/${m.name}`);
    for (const c of (await daemon.call('GET', '/chats')).body.chats) await daemon.call('DELETE', `/chats/${c.id}`);
    for (const name of await named(daemon)) await daemon.call('DELETE', `/downloads/${name}`);
    assert.ok((await daemon.models()).every((m) => m.built_in));
    await composer(page).fill('');
  },
};
