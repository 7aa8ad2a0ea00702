// node http on port 3000: says what the file `own` has, who asks, and which process or thread answers.
const http = require('http');
const fs = require('fs');
const own = fs.readFileSync('own', 'utf8').trim();
module.exports = (who) => http.createServer((request, response) => {
  response.setHeader('Connection', 'close');
  response.end(`${own} peer=${request.socket.remoteAddress} who=${who}\n`);
}).listen(3000, () => console.log('listening'));
if (require.main === module) module.exports(process.pid);
