program="Express"
what="app.listen(3000)"
port=3000
version() { node -p "require('$APPS_HOME/node/node_modules/express/package.json').version" 2>/dev/null; }
setup() { echo "$own" >own; cp "$APPS/express.js" .; ln -sf "$APPS_HOME/node/node_modules" node_modules; }
start() { wrap node express.js; }
check() { expect "127.0.0.1" inside curl -s -4 "localhost:3000"; }
