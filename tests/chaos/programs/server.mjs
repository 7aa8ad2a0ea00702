// Node's HTTP server on its default address: answers with its instance's name.
import http from 'node:http';

const body = `${process.env.AGENTFS_APP}/${process.env.AGENTFS_INSTANCE}`;
const server = http.createServer((request, response) => response.end(body));
server.on('error', (error) => {
  console.log(JSON.stringify({ call: error.syscall === 'listen' ? 'bind' : error.syscall, errno: -error.errno }));
  process.exit(1);
});
server.listen(Number(process.argv[2]), () => console.log('listening'));
