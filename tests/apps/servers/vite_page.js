// vite_page.js URL TITLE FILE: opens URL in Chromium, which has to give TITLE and to trust whoever serves it, then
// changes FILE and waits until the page shows that without having been loaded again. Prints where it was.
const fs = require('fs');
const { chromium } = require(process.env.APPS_HOME + '/node/node_modules/playwright-core');
const [url, title, file] = process.argv.slice(2);
const titled = (page, text) => page.waitForFunction((text) => document.title === text, text, { timeout: 30000 });
(async () => {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu',
    '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'] });
  const page = await browser.newPage();
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(socket.url().split('?')[0]));
  await page.goto(url, { timeout: 30000 });
  await titled(page, title);
  await page.evaluate(() => { window.stays = true; });
  const changed = 'changed ' + process.pid;
  fs.appendFileSync(file, `\ndocument.title = '${changed}';\n`);
  await titled(page, changed);
  if (!await page.evaluate(() => window.stays)) throw new Error('the page was loaded again');
  console.log(`hot at ${page.url()} by ${sockets.join(' ')}`);
  await browser.close();
})().catch((error) => { console.log(error.message); process.exit(1); });
