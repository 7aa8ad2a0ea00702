// The page shows the row and the value of this very checkout: at localhost, and under the checkout's own URL.
const path = require('node:path');
const { test, expect } = require('@playwright/test');

test('the board is that of this checkout', async ({ page }) => {
  const own = path.basename(path.dirname(__dirname));
  for (const url of [`http://localhost:${process.env.WEB_PORT}/`, process.env.AGENTFS_URL]) {
    await page.goto(url);
    await expect(page.locator('#board')).not.toBeEmpty();
    const text = await page.locator('#board').innerText();
    console.log(`answer at ${url}: ${text}`);
    expect.soft(text).toBe(`row ${own}, value ${own}`);
  }
});
