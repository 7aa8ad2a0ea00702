// With START=1 the tests start what is not running; that is how most projects configure it.
const { WEB_PORT, API_PORT, START } = process.env;
const server = (command, url) => ({ command, url, reuseExistingServer: true, timeout: 120_000 });

module.exports = {
  testDir: 'e2e',
  reporter: 'list',
  timeout: 120_000,
  expect: { timeout: 60_000 },
  use: {
    launchOptions: {
      executablePath: process.env.CHROMIUM,
      args: ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
    },
  },
  webServer: START ? [
    server('npm run api', `http://localhost:${API_PORT}/api/health`),
    server('npm run web', `http://localhost:${WEB_PORT}/`),
  ] : undefined,
};
