// express on port 3000.
const app = require('express')();
const own = require('fs').readFileSync('own', 'utf8').trim();
app.get('/', (request, response) => response.send(`${own} peer=${request.ip}\n`));
app.listen(3000);
