const path = require('node:path');
const { test, expect } = require('@playwright/test');

test('the server is that of this checkout', async ({ request }) => {
  const answer = await request.get('/');
  expect(await answer.text()).toBe(path.basename(__dirname));
});
