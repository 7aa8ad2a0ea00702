const url = `http://localhost:${process.env.WEB_PORT}/`;

module.exports = {
  reporter: 'line',
  timeout: 120_000,
  use: { baseURL: url },
  webServer: { command: 'npm start', url, reuseExistingServer: true, timeout: 120_000 },
};
