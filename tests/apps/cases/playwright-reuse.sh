program="Playwright, reuseExistingServer"
what="tests/demo/playwright.sh 9: the suite of one fork, while another fork and the main checkout (without agentfs) serve the same port and count who comes"
limit=900
version() { "$node_bin/playwright" --version; }
try() { demo playwright.sh 9; }
