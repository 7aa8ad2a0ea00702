// Says whose it is, and counts who comes: a line for each connection and each request in the file $VISITS.
const { appendFileSync } = require('node:fs');
const path = require('node:path');

const note = (what) => appendFileSync(process.env.VISITS ?? path.join(__dirname, 'visits'), `${what}\n`);
require('node:http')
  .createServer((request, response) => {
    note(`request ${request.headers['user-agent']}`);
    response.end(path.basename(__dirname));
  })
  .on('connection', (socket) => note(`connection from ${socket.remotePort}`))
  .listen(process.env.WEB_PORT, () => console.log('listening'));
