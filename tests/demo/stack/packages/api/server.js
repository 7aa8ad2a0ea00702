// Answers with one row of PostgreSQL and one value of Redis, each from its usual address.
const { appendFileSync } = require('node:fs');
const express = require('express');
const { Pool } = require('pg');
const { createClient } = require('redis');

const { API_PORT, DB_PORT, CACHE_PORT, VISITS } = process.env;
// The database may start later than this, and a connection that ends is an error of the pool.
const db = new Pool({ host: 'localhost', port: DB_PORT, user: 'postgres', database: 'postgres' });
db.on('error', (error) => console.error('db:', error.message));
const cache = createClient({ url: `redis://localhost:${CACHE_PORT}` });
cache.on('error', (error) => console.error('cache:', error.message));
cache.connect();

const app = express();
app.get('/api/health', (request, response) => response.send('ok'));
app.get('/api/board', async (request, response) => {
  const { rows } = await db.query('select name from checkout');
  response.json({ row: rows[0].name, value: await cache.get('checkout') });
});
app.use((error, request, response, next) => response.status(500).json({ error: error.message }));
const server = app.listen(API_PORT, () => console.log(`api: listening on ${API_PORT}`));
server.on('connection', () => VISITS && appendFileSync(VISITS, 'api: connection\n'));
