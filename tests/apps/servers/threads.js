// worker_threads: each of two threads has a server; the second one's port is in use and it says so.
const { Worker, isMainThread, threadId } = require('worker_threads');
const http = require('http');
const own = require('fs').readFileSync('own', 'utf8').trim();
if (isMainThread) {
  const first = new Worker(__filename);
  first.once('message', () => new Worker(__filename).once('message', (text) => console.log('second: ' + text)));
} else {
  const server = http.createServer((request, response) => response.end(`${own} thread=${threadId}\n`));
  server.on('error', (error) => require('worker_threads').parentPort.postMessage(error.code));
  server.listen(3000, () => require('worker_threads').parentPort.postMessage('listening'));
}
