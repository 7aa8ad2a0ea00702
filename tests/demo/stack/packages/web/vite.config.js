import { appendFileSync } from 'node:fs';

const { WEB_PORT, API_PORT, VISITS, DATA = 'own' } = process.env;
const count = {
  name: 'count-visits',
  configureServer(server) {
    if (VISITS) server.httpServer.on('connection', () => appendFileSync(VISITS, 'web: connection\n'));
  },
};

export default {
  // It has a lock: one server for each.
  cacheDir: `.vite/${DATA}`,
  clearScreen: false,
  plugins: [count],
  server: {
    port: Number(WEB_PORT),
    strictPort: true,
    proxy: { '/api': `http://localhost:${API_PORT}` },
  },
};
