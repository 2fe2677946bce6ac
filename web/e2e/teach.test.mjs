// Teaching a model on the page, to the end. Each test goes on where the one before ended.
import assert from 'node:assert/strict';
import { accessible, noSideways } from './browser.mjs';
import { chatId, composer, newChat, row, say, writing } from './steps.mjs';

const text = Array.from({ length: 16 }, (_, i) => `Boat ${i} has a mast, and a mast has a sail, and a sail has the wind.`).join('\n\n');
const dialog = (page) => page.getByRole('dialog', { name: 'Teach', exact: true });
const card = (page, name) => dialog(page).locator('[data-training]', { has: page.getByText(`:${name}`) });

async function open(page) {
  await page.getByRole('button', { name: 'Teach', exact: true }).click();
  await dialog(page).waitFor();
}

async function start(page, name, steps) {
  await dialog(page).getByLabel('Name', { exact: true }).fill(name);
  await dialog(page).getByLabel('The text').fill(text);
  if (!(await dialog(page).getByLabel('Steps', { exact: true }).isVisible())) await dialog(page).getByText('More settings').click();
  await dialog(page).getByLabel('Steps', { exact: true }).fill(String(steps));
  await dialog(page).getByLabel('Rank', { exact: true }).fill('4');
  await dialog(page).getByRole('button', { name: 'Start' }).click();
  await card(page, name).waitFor();
  await page.waitForFunction((n) => document.activeElement?.textContent.includes(`:${n}`), name);
}

export const teach = {
  async 'a model is taught from a pasted text'({ page, daemon }) {
    await open(page);
    await accessible(page, 'the form');
    await page.evaluate(() => {
      window.said = [];
      const region = document.querySelector('dialog [role=status]');
      new MutationObserver(() => window.said.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
    });
    await start(page, 'boats', 4);
    await card(page, 'boats').and(page.locator('[data-state=done]')).waitFor({ timeout: 120_000 });
    await card(page, 'boats').getByText('On text it had not seen, the loss went from').waitFor();
    await card(page, 'boats').getByRole('img', { name: /^Loss: from \d+\.\d\d to \d+\.\d\d in 4 steps$/ }).waitFor();
    const { trainings } = (await daemon.call('GET', '/trainings')).body;
    const lesson = trainings.find((t) => t.name === 'boats');
    assert.equal(lesson.state, 'done');
    assert.ok((await card(page, 'boats').innerText()).includes(lesson.held_out_after.toFixed(2)), 'the page says what the daemon says');
    const said = await page.evaluate(() => window.said);
    assert.ok(said.length <= 8 && said.at(-1) === 'boats: Done', `the live region is quiet: ${said.join(' | ')}`);
    await accessible(page, 'a training that is done');
    await page.setViewportSize({ width: 320, height: 640 });
    await noSideways(page, 'the trainings');
    await page.setViewportSize({ width: 1280, height: 860 });
    await card(page, 'boats').getByRole('button', { name: /^Chat with it: .*:boats$/ }).click();
    await page.getByRole('button', { name: /^Model: .*:boats\./ }).waitFor();
    await page.waitForFunction(() => document.activeElement?.id === 'composer');
  },

  async 'a training is paused, resumed and removed, with the keyboard'({ page, daemon }) {
    await open(page);
    await start(page, 'long', 100_000);
    await card(page, 'long').getByText(/step \d+ of 100,000/).waitFor({ timeout: 60_000 });
    await card(page, 'long').getByRole('img', { name: /^Loss: / }).waitFor({ timeout: 60_000 });
    await card(page, 'long').getByRole('button', { name: 'Pause long' }).press('Enter');
    await card(page, 'long').and(page.locator('[data-state=paused]')).waitFor();
    await page.reload();
    await open(page);
    await card(page, 'long').getByText('Paused at step').waitFor();
    await card(page, 'long').getByRole('img', { name: /^Loss: / }).waitFor();
    await card(page, 'long').getByRole('button', { name: 'Resume long' }).press('Enter');
    await card(page, 'long').and(page.locator('[data-state=running]')).waitFor();
    await accessible(page, 'a training under way');
    await card(page, 'long').getByRole('button', { name: 'Stop and remove long' }).press('Enter');
    await card(page, 'long').waitFor({ state: 'detached' });
    assert.deepEqual((await daemon.call('GET', '/trainings')).body.trainings.map((t) => t.name), ['boats']);
    await card(page, 'boats').getByRole('button', { name: 'Remove boats' }).press('Enter');
    await card(page, 'boats').waitFor({ state: 'detached' });
    await page.keyboard.press('Escape');
  },

  async 'a conversation can be learnt from'({ page }) {
    await newChat(page);
    await composer(page).waitFor();
    await say(page, 'What is a mast?');
    await writing(page);
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => !document.querySelector('article[data-state=generating]'));
    const id = chatId(page);
    await row(page, id).hover();
    await row(page, id).getByRole('button', { name: 'Actions for' }).click();
    await page.getByRole('menuitem', { name: 'Teach from this conversation' }).click();
    assert.ok(await dialog(page).getByRole('radio', { name: 'A conversation' }).isChecked());
    assert.equal(await dialog(page).getByRole('combobox', { name: 'A conversation' }).inputValue(), id);
    await dialog(page).getByRole('button', { name: 'Start' }).click();
    await dialog(page).getByRole('alert').getByText('too few').waitFor({ timeout: 60_000 });
    await dialog(page).getByText('From: What is a mast?').waitFor();
    await accessible(page, 'a training that failed');
    await dialog(page).getByRole('button', { name: /^Remove/ }).click();
    await page.keyboard.press('Escape');
  },
};
