program="Vite, Express, PostgreSQL, Redis in five checkouts"
what="tests/demo/worktrees.sh: a checkout and four worktrees on the same ports, each started by several shells; a Playwright run in each, one with reuseExistingServer; the main checkout also runs without agentfs"
limit=900
version() { [ -x /usr/bin/chromium ] && "$node_bin/playwright" --version; }
try() { demo worktrees.sh; }
