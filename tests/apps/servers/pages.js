// pages.js PORT CHECK: the router's own pages as a person sees them, in Chromium. Screenshots go to $SHOTS,
// where that is set. Prints `ok`, or what is wrong with which page.
const { chromium } = require(process.env.APPS_HOME + '/node/node_modules/playwright-core');
const fs = require('node:fs');
const port = process.argv[2];
const url = (host, path = '/') => `http://${host}:${port}${path}`;
let page;

function must(holds, what) {
  if (!holds) throw new Error(`${page.url()}: ${what}`);
}

async function shot(name) {
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}.png`, fullPage: true });
}

// No page may need anything from elsewhere, run a script, or say an error on the console.
async function open(address, status, name) {
  const trouble = [];
  const asked = [];
  const note = (message) => { if (message.type() === 'error') trouble.push(message.text()); };
  const noted = (request) => asked.push(request.url());
  page.on('console', note);
  page.on('request', noted);
  const answer = await page.goto(address, { timeout: 20000 });
  page.off('console', note);
  page.off('request', noted);
  must(answer.status() === status, `status ${answer.status()}, not ${status}`);
  must((answer.headers()['content-type'] || '').startsWith('text/html'), 'is no HTML');
  const foreign = asked.filter((each) => !each.startsWith(url(new URL(address).hostname, '')));
  must(foreign.length === 0, `asks for ${foreign}`);
  const errors = trouble.filter((text) => !text.includes(`status of ${status}`) && !text.includes('favicon'));
  must(errors.length === 0, `console: ${errors}`);
  must(await page.evaluate(() => document.compatMode === 'CSS1Compat' && document.title !== '' && document.documentElement.lang === 'en'),
    'has no doctype, title or language');
  must(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), 'is wider than the window');
  if (name) await shot(name);
  return page.innerText('body');
}

const checks = {
  async index(live, own) {
    for (const host of ['agentfs.localhost', 'localhost']) {
      const text = await open(url(host), 200, `index-${host}`);
      must(text.includes(live), `does not list ${live}: ${text}`);
    }
    await page.setViewportSize({ width: 360, height: 640 });
    await open(url('agentfs.localhost'), 200, 'index-narrow');
    await page.emulateMedia({ colorScheme: 'dark' });
    await open(url('agentfs.localhost'), 200, 'index-dark');
    await page.getByRole('link', { name: live, exact: true }).first().click();
    await page.waitForURL(url(live));
    must((await page.innerText('body')).includes(own), `the link does not lead to ${own}`);
  },
  async unknown(live, own) {
    const text = await open(url('nobody.localhost'), 404, 'unknown');
    must(text.includes('nobody.localhost') && text.includes(live), text);
    await page.getByRole('link', { name: live, exact: true }).first().click();
    must((await page.innerText('body')).includes(own), `the link does not lead to ${own}`);
  },
  async dead(host, command) {
    const text = await open(url(host), 502, 'dead');
    for (const part of [host, command, '.sock', 'ago']) must(text.includes(part), `does not say ${part}: ${text}`);
  },
  // Waits for its listener, says so, asks again by itself, and in the end shows the program, with no hand on it.
  async starting(host, own, go) {
    const begin = Date.now();
    const text = await open(url(host), 503, 'starting');
    const waited = Date.now() - begin;
    must(text.includes(host) && text.includes('does not listen yet'), text);
    must(waited < 15000, `waited ${waited} ms`);
    fs.writeFileSync(go, '');
    await page.waitForFunction((wanted) => document.body.innerText.includes(wanted), own, { timeout: 40000 });
    await shot('started');
  },
};

(async () => {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu',
    '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'] });
  try {
    page = await browser.newPage();
    await checks[process.argv[3]](...process.argv.slice(4));
    console.log('ok');
  } finally {
    await browser.close();
  }
})().catch((error) => { console.log(error.message); process.exit(1); });
