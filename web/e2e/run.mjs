// Walks through the pages of a running daemon with a real browser, as in
//   CENTRAM_URL=http://127.0.0.1:9740 npm run e2e
// CHROMIUM names the browser; SCREENSHOT is where a picture goes, and FAILED where one goes of the first failure, which
// ends the walk; MODEL is a GGUF file to add if the daemon has none; HUB says that the daemon has the catalogue of build/e2e.
import assert from 'node:assert/strict';
import { launch, open } from './browser.mjs';
import { daemon } from './daemon.mjs';
import { detra } from './detra.test.mjs';
import { download } from './download.test.mjs';
import { teach } from './teach.test.mjs';

const url = process.env.CENTRAM_URL;
if (!url) throw new Error('Set CENTRAM_URL to the address of a running daemon.');
const { origin } = new URL(url);

const browser = await launch();
let failed = false;
try {
  const { page, offences } = await open(browser, origin);
  page.setDefaultTimeout(20_000);
  const world = { page, origin, browser, daemon: daemon(origin) };
  for (const [name, test] of Object.entries({ ...(process.env.HUB ? download : {}), ...detra, ...teach })) {
    const start = performance.now();
    try {
      await test(world);
      assert.deepEqual(offences.splice(0), [], 'what the page must not do');
      console.log(`ok    ${name} (${Math.round(performance.now() - start)} ms)`);
    } catch (error) {
      failed = true;
      console.error(`FAIL  ${name}\n    ${error.stack}`);
      if (process.env.FAILED) await page.screenshot({ path: process.env.FAILED }).catch(() => {});
      break;
    }
  }
} finally {
  await browser.close();
}
if (!failed) console.log('All passed.');
process.exitCode = failed ? 1 : 0;
