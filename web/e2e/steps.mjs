// What a person does, in the words of the tests.
import assert from 'node:assert/strict';

// A small model can be done before a person could act, so what happens in the middle of an answer is tried so often.
export const tries = 12;

export const composer = (page) => page.getByRole('textbox', { name: 'Message', exact: true });
export const answers = (page) => page.locator('article[data-role=assistant]');
export const questions = (page) => page.locator('article[data-role=user]');
export const chatId = (page) => /#\/c\/(.+)$/.exec(page.url())?.[1];
export const row = (page, id) => page.locator('li', { has: page.locator(`[data-chat="${id}"]`) });

export async function say(page, text) {
  await composer(page).fill(text);
  await composer(page).press('Enter');
  await page.waitForFunction((t) => [...document.querySelectorAll('article[data-role=user]')].at(-1)?.textContent.includes(t), text);
}

export async function finished(page, state = 'done') {
  const last = answers(page).last();
  await last.and(page.locator(`[data-state=${state}]`)).waitFor({ timeout: 120_000 });
  return last.getAttribute('data-message');
}

// copied is the source of a message, by its button.
export async function copied(page, article) {
  await article.getByRole('button', { name: 'Copy message' }).click();
  return page.evaluate(() => navigator.clipboard.readText());
}

// writing waits for the last answer to have some text while it grows; false if it ended before.
export async function writing(page) {
  const handle = await page.waitForFunction(() => {
    const last = [...document.querySelectorAll('article[data-role=assistant]')].at(-1);
    if (!last) return false;
    if (last.dataset.state !== 'generating') return 'over';
    return last.querySelector('.prose')?.textContent.trim() ? 'writing' : false;
  });
  return (await handle.jsonValue()) === 'writing';
}

// midway does something while an answer grows.
export async function midway(page, begin, act) {
  for (let attempt = 0; attempt < tries; attempt++) {
    await begin();
    if (await writing(page)) return act();
    await finished(page);
  }
  assert.fail('every answer was complete before anything could be done');
}

export async function again(page) {
  const last = answers(page).last();
  const before = await last.getAttribute('data-message');
  await last.hover();
  await last.getByRole('button', { name: 'Answer again' }).click();
  await page.waitForFunction(
    (id) => [...document.querySelectorAll('article[data-role=assistant]')].at(-1)?.dataset.message !== id,
    before,
  );
}

export async function newChat(page) {
  await page.keyboard.press('Control+Shift+O');
  await page.waitForFunction(() => !location.hash.startsWith('#/c/'));
}

// sent puts together what the daemon sent of an answer over all connections since the page was loaded.
export async function sent(page, message) {
  const streams = await page.evaluate((id) => window.streams.filter((s) => s.message === id), message);
  return streams.map(({ from, sent }) => {
    const deltas = sent
      .split('\n\n')
      .filter((e) => /^event: ?delta$/m.test(e))
      .map((e) => JSON.parse(/^data: ?(.*)$/m.exec(e)[1]));
    return { from, deltas };
  });
}
