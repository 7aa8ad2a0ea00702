program="Vite"
what="vite dev server, port 5173; HMR over WebSocket through localhost and through the router; strictPort sees its own port in use"
port=5173 path=/main.js
version() { "$node_bin/vite" --version; }
setup() {
    ln -sf "$APPS_HOME/node/node_modules" node_modules
    echo '{"name":"x","type":"module"}' >package.json
    echo '<script type="module" src="/main.js"></script>' >index.html
    echo "export default '$own'; if (import.meta.hot) import.meta.hot.accept();" >main.js
}
start() { wrap "$node_bin/vite"; }
hmr() { "$@" node "$APPS/vite_hmr.js" "$url" "${host-}" "$folder/main.js"; }
check() {
    url=ws://localhost:5173 host='' 
    expect '"type":"update"' hmr inside
    url=ws://127.0.0.1:$(router) host=$instance.$name.localhost
    expect '"type":"update"' hmr env NODE_PATH="$APPS_HOME/node/node_modules"
    expect "already in use" inside timeout 20 "$node_bin/vite" --strictPort
}
