// A test as people write it: opens localhost:3000 and *.localhost:3000 in Chromium and compares the text.
const { chromium } = require(process.env.APPS_HOME + '/node/node_modules/playwright-core');
(async () => {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu',
    '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'] });
  const page = await browser.newPage();
  for (const url of ['http://localhost:3000/', 'http://127.0.0.1:3000/', 'http://any.localhost:3000/']) {
    await page.goto(url, { timeout: 20000 });
    console.log(url, await page.innerText('body'));
  }
  console.log('request', await (await page.request.get('http://localhost:3000/')).text());
  await browser.close();
})().catch((error) => { console.log(error.message); process.exit(1); });
