// vite_hmr.js URL HOST FILE: connects as Vite's client does, changes FILE, prints the update that is sent.
const fs = require('fs');
const http = require('http');
const [url, host, file] = process.argv.slice(2);
const base = new URL(url);
const headers = host ? { Host: host } : {};
const get = (path) => new Promise((resolve, reject) => http.get({
  hostname: base.hostname, port: base.port, path, headers,
}, (response) => { let text = ''; response.on('data', (d) => text += d).on('end', () => resolve(text)); }).on('error', reject));
(async () => {
  const client = await get('/@vite/client');
  await get('/main.js');
  const token = /wsToken = "([^"]+)"/.exec(client)[1];
  const { WebSocket } = require(process.cwd() + '/node_modules/ws');
  const socket = new WebSocket(`${url}/?token=${token}`, 'vite-hmr', { headers });
  socket.on('message', (data) => {
    const text = data.toString();
    console.log(text);
    if (text.includes('connected')) fs.appendFileSync(file, '\n// changed\n');
    if (text.includes('"update"')) process.exit(0);
  });
  socket.on('error', (error) => { console.log(error.message); process.exit(1); });
  setTimeout(() => { console.log('no update within 10 s'); process.exit(1); }, 10000);
})();
