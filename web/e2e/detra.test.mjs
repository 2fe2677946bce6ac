// DETRA in a browser, against a daemon with a small model. Each test goes on where the one before ended.
import assert from 'node:assert/strict';
import { accessible, noSideways } from './browser.mjs';
import {
  again, answers, chatId, composer, copied, finished, midway, newChat, questions, row, say, sent, tries,
} from './steps.mjs';

const story = 'Tell me a long story about the winter sea, please.';

export const detra = {
  async 'without a model it says how to get one'({ page, origin }) {
    const none = (route) => route.fulfill({ json: { models: [] } });
    await page.route('**/api/v1/models', none);
    await page.goto(`${origin}/detra/`);
    await page.getByRole('heading', { name: 'First, a model' }).waitFor();
    await accessible(page, 'the page without a model');
    await page.getByLabel('Path of the file').fill('/nowhere/at-all.gguf');
    await page.getByRole('button', { name: 'Add model' }).click();
    await page.getByRole('alert').waitFor();
    assert.ok((await page.getByRole('alert').innerText()).length > 10, 'the error has words');
    await page.unroute('**/api/v1/models', none);
  },

  async 'the toy that comes along answers, and says that it is one'({ page, daemon }) {
    if ((await daemon.models()).some((m) => !m.built_in)) return; // a daemon in use is tested
    await page.reload();
    await page.getByText('It is toy that answers').waitFor();
    await accessible(page, 'the page with the toy alone');
    await say(page, 'What is your name?');
    const id = await finished(page);
    assert.match((await daemon.message(chatId(page), id)).content, /[a-z]+ [a-z]+/, 'it says some words');
  },

  async 'a model is added by its path'({ page, origin, daemon }) {
    if ((await daemon.models()).every((m) => m.built_in)) {
      assert.ok(process.env.MODEL, 'the daemon has no model, and MODEL names none');
      await page.goto(`${origin}/detra/`);
      await page.getByLabel('Path of the file').fill(process.env.MODEL);
      await page.getByRole('button', { name: 'Add model' }).click();
      await page.getByText('is ready.').waitFor({ timeout: 60_000 });
    }
  },

  async 'the page opens'({ page, origin }) {
    await page.goto(`${origin}/detra/`);
    await page.getByRole('heading', { name: 'What would you like to talk about?' }).waitFor();
    await page.waitForFunction(() => document.activeElement?.id === 'composer');
    await accessible(page, 'an empty chat');
  },

  async 'an answer is streamed'({ page, daemon }) {
    let asked = 0;
    await midway(page, () => (asked++ ? again(page) : say(page, story)), () => {});
    const id = await finished(page);
    const stored = await daemon.message(chatId(page), id);
    assert.equal(await copied(page, answers(page).last()), stored.content);
    await page.waitForFunction(() => document.title.includes('winter sea'));
    assert.ok(stored.stats.generated_tokens > 0);
    await page.getByRole('meter').waitFor();
    await accessible(page, 'a chat');
  },

  async 'an answer survives a reload'({ page, daemon }) {
    let id;
    let streams = [];
    for (let attempt = 0; attempt < tries && streams.length === 0; attempt++) {
      await midway(page, () => again(page), () => page.reload());
      id = await finished(page);
      streams = await sent(page, id);
    }
    const { content } = await daemon.message(chatId(page), id);
    assert.equal(await copied(page, answers(page).last()), content);
    const points = [...content];
    assert.ok(streams.length > 0, 'the page followed the answer again');
    for (const { from, deltas } of streams) {
      let have = from;
      for (const delta of deltas) {
        assert.ok(delta.from <= have, 'nothing is missing between two deltas');
        assert.equal(delta.text, points.slice(delta.from, delta.from + [...delta.text].length).join(''));
        have = Math.max(have, delta.from + [...delta.text].length);
      }
      assert.equal(have, points.length, 'the deltas reach the end');
    }
  },

  async 'an answer can be stopped'({ page, daemon }) {
    for (const stop of [
      () => page.getByRole('button', { name: 'Stop the answer' }).click({ timeout: 3000 }),
      () => page.keyboard.press('Escape'),
    ]) {
      let id;
      for (let attempt = 0; attempt < tries && !id; attempt++) {
        await midway(page, () => again(page), () => stop().catch(() => {}));
        await page.waitForFunction(() => !document.querySelector('article[data-state=generating]'));
        const last = answers(page).last();
        if ((await last.getAttribute('data-state')) === 'stopped') id = await last.getAttribute('data-message');
      }
      assert.ok(id, 'an answer was stopped');
      assert.equal((await daemon.message(chatId(page), id)).state, 'stopped');
    }
  },

  async 'a stopped answer can be continued'({ page, daemon }) {
    const id = await answers(page).last().getAttribute('data-message');
    const before = (await daemon.message(chatId(page), id)).content;
    await answers(page).last().getByRole('button', { name: 'Continue' }).click();
    await page.waitForFunction(() => !document.querySelector('article[data-state=generating], article[data-state=stopped]'));
    const after = await daemon.message(chatId(page), id);
    assert.ok(after.content.startsWith(before), 'it goes on where it was stopped');
    assert.equal(await copied(page, answers(page).last()), after.content);
  },

  async 'branches can be turned'({ page, daemon }) {
    const ids = (await daemon.chat(chatId(page))).messages.filter((m) => m.role === 'assistant').map((m) => m.id);
    const shown = () => answers(page).last().getAttribute('data-message');
    assert.equal(await shown(), ids.at(-1));
    const group = answers(page).last().getByRole('group', { name: 'Branches' });
    await group.getByText(`Branch ${ids.length} of ${ids.length}`).waitFor({ state: 'attached' });
    await group.getByRole('button', { name: 'Previous branch' }).click();
    assert.equal(await shown(), ids.at(-2));
    await page.reload();
    await answers(page).last().waitFor();
    assert.equal(await shown(), ids.at(-2), 'the branch is remembered');
    await answers(page).last().getByRole('button', { name: 'Next branch' }).click();
    assert.equal(await shown(), ids.at(-1));
  },

  async 'a message can be edited'({ page, daemon }) {
    await composer(page).focus();
    await page.keyboard.press('ArrowUp');
    const field = page.getByRole('textbox', { name: 'Edit message' });
    assert.equal(await field.inputValue(), story);
    await field.fill('Say something short about lighthouses.');
    await field.press('Enter');
    await questions(page).getByText('lighthouses').waitFor();
    await finished(page);
    const { messages } = await daemon.chat(chatId(page));
    assert.equal(messages.filter((m) => m.role === 'user' && m.parent === '').length, 2);
    await questions(page).first().getByRole('button', { name: 'Previous branch' }).click();
    await questions(page).getByText('winter sea').waitFor();
  },

  async 'dialogs are accessible and close'({ page }) {
    for (const [keys, title] of [
      ['Control+,', 'Settings'],
      ['Control+.', 'Models'],
      ['Control+/', 'Keyboard shortcuts'],
    ]) {
      await page.keyboard.press(keys);
      await page.getByRole('dialog', { name: title, exact: true }).waitFor();
      await accessible(page, title);
      await page.keyboard.press('Escape');
      await page.getByRole('dialog').waitFor({ state: 'detached' });
    }
    await page.getByRole('button', { name: 'Settings of this chat' }).click();
    await accessible(page, 'the settings of a chat');
  },

  async 'settings of a chat are kept, marked and reset'({ page, daemon }) {
    const dialog = page.getByRole('dialog');
    await dialog.getByLabel('Temperature', { exact: true }).fill('0.3');
    await dialog.getByLabel('Temperature', { exact: true }).press('Tab');
    await dialog.getByText('Differs from the default').waitFor();
    await page.waitForTimeout(300);
    assert.equal((await daemon.chat(chatId(page))).sampling.temperature.toFixed(2), '0.30');
    await dialog.getByRole('button', { name: 'Reset “Temperature”' }).click();
    await dialog.getByText('Differs from the default').waitFor({ state: 'detached' });
    await page.waitForTimeout(300);
    assert.deepEqual((await daemon.chat(chatId(page))).sampling, {});
    await page.keyboard.press('Escape');
  },

  async 'another language can be chosen'({ page }) {
    await page.keyboard.press('Control+,');
    await page.getByLabel('Language').selectOption('de');
    await page.getByRole('dialog', { name: 'Einstellungen' }).waitFor();
    assert.equal(await page.getAttribute('html', 'lang'), 'de');
    await noSideways(page, 'the page with longer words');
    await page.getByLabel('Sprache').selectOption('');
    await page.getByRole('dialog', { name: 'Settings' }).waitFor();
    await page.keyboard.press('Escape');
  },

  async 'a search finds messages'({ page }) {
    await page.keyboard.press('Control+k');
    await page.keyboard.type('winter');
    await page.locator('nav mark', { hasText: /winter/i }).first().waitFor();
    await accessible(page, 'a search');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Escape');
    await page.locator('nav mark').first().waitFor({ state: 'detached' });
  },

  async 'a chat can be renamed'({ page, daemon }) {
    const id = chatId(page);
    await row(page, id).hover();
    await row(page, id).getByRole('button', { name: 'Actions for' }).click();
    await page.getByRole('menuitem', { name: 'Rename' }).click();
    const field = page.getByLabel('Title of the conversation');
    await field.fill('Sea and lights');
    await field.press('Enter');
    await page.getByRole('heading', { name: 'Sea and lights', level: 1 }).waitFor();
    await page.waitForTimeout(300);
    assert.equal((await daemon.chat(id)).title, 'Sea and lights');
  },

  async 'a chat can be deleted, and that undone'({ page, daemon }) {
    const kept = chatId(page);
    await newChat(page);
    await say(page, 'Only a word.');
    await finished(page);
    const id = chatId(page);
    const remove = async () => {
      await row(page, id).hover();
      await row(page, id).getByRole('button', { name: 'Actions for' }).click();
      await page.getByRole('menuitem', { name: 'Delete' }).click();
      await row(page, id).waitFor({ state: 'detached' });
    };
    await remove();
    await page.getByRole('button', { name: 'Undo' }).click();
    await row(page, id).waitFor();
    await questions(page).getByText('Only a word.').waitFor();
    assert.equal((await daemon.call('GET', `/chats/${id}`)).status, 200);
    await remove();
    await page.getByRole('button', { name: 'Dismiss' }).click();
    await page.waitForTimeout(500);
    assert.equal((await daemon.call('GET', `/chats/${id}`)).status, 404);
    await page.locator(`[data-chat="${kept}"]`).click();
    await answers(page).last().waitFor();
  },

  async 'it can be used by keyboard alone'({ page }) {
    await page.reload();
    await answers(page).last().waitFor();
    await page.evaluate(() => document.activeElement?.blur());
    const seen = new Set();
    let rounds = 0; // Tab begins where the focus was, and comes by the page's end once
    for (let i = 0; i < 120; i++) {
      await page.keyboard.press('Tab');
      const at = await page.evaluate(() => {
        const e = document.activeElement;
        if (!e || e === document.body) return null;
        const ring = e.id === 'composer' ? e.parentElement : e;
        const style = getComputedStyle(ring);
        const name = e.getAttribute('aria-label') || e.textContent.trim() || e.id;
        return { name, visible: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 };
      });
      if (!at && rounds++) break;
      if (!at) continue;
      assert.ok(at.visible, `the focus is seen on ${at.name}`);
      seen.add(at.name);
    }
    for (const name of ['New chat', 'Settings', 'Message', 'Copy message', 'Answer again', 'Settings of this chat']) {
      assert.ok([...seen].some((s) => s.startsWith(name)), `Tab reaches ${name}, among ${[...seen].join(', ')}`);
    }
    await page.evaluate(() => document.activeElement?.blur());
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor();
    await page.keyboard.press('Escape');
    await page.keyboard.press('/');
    await page.waitForFunction(() => document.activeElement?.id === 'composer');
    await page.keyboard.type('a / b ?');
    assert.equal(await composer(page).inputValue(), 'a / b ?', 'single keys are text where one types');
    await page.reload();
    await page.waitForFunction(() => document.querySelector('#composer')?.value === 'a / b ?', null, { timeout: 5000 });
    await composer(page).fill('');
  },

  async 'it fits 320 px'({ page }) {
    await page.setViewportSize({ width: 320, height: 640 });
    await answers(page).last().waitFor();
    await noSideways(page, 'a chat');
    await page.getByRole('button', { name: 'Show the conversations' }).click();
    await page.getByRole('dialog', { name: 'Conversations' }).waitFor();
    await noSideways(page, 'the drawer');
    await accessible(page, 'the drawer');
    await page.getByRole('button', { name: 'Settings', exact: true }).click();
    await noSideways(page, 'the settings');
    await page.keyboard.press('Escape');
    await page.keyboard.press('Escape');
    await newChat(page);
    await noSideways(page, 'an empty chat');
    await page.goBack();
    await page.setViewportSize({ width: 1280, height: 860 });
  },

  async 'a picture is taken'({ page }) {
    await answers(page).last().waitFor();
    await page.mouse.move(700, 500);
    await page.waitForTimeout(300);
    if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
  },
};
