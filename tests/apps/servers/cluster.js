// node cluster: two workers share port 3000; a worker that dies is replaced.
const cluster = require('cluster');
if (cluster.isPrimary) {
  cluster.fork(); cluster.fork();
  cluster.on('exit', () => cluster.fork());
} else require('./http.js')(process.pid);
