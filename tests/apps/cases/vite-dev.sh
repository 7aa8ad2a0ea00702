program="Vite"
what="vite dev server, port 5173; HMR over WebSocket through localhost and through the router, in Chromium by http and by https; strictPort sees its own port in use"
port=5173 path=/main.js
version() { "$node_bin/vite" --version; }
setup() {
    ln -sf "$APPS_HOME/node/node_modules" node_modules
    echo '{"name":"x","type":"module"}' >package.json
    echo '<script type="module" src="/main.js"></script>' >index.html
    write
}
write() { echo "export default '$own'; document.title = '$own'; if (import.meta.hot) import.meta.hot.accept();" >main.js; }
start() { wrap "$node_bin/vite"; }
hmr() { "$@" node "$APPS/vite_hmr.js" "$url" "${host-}" "$folder/main.js"; }
# page SCHEME: the page in Chromium, whose trust store is in a home of the case's own.
page() {
    write
    HOME=$scratch/user node "$APPS/vite_page.js" "$1://$instance.$name.localhost:$(router "$1")/" "$own" "$folder/main.js"
}
check() {
    url=ws://localhost:5173 host=''
    expect '"type":"update"' hmr inside
    url=ws://127.0.0.1:$(router) host=$instance.$name.localhost
    expect '"type":"update"' hmr env NODE_PATH="$APPS_HOME/node/node_modules"
    expect "already in use" inside timeout 20 "$node_bin/vite" --strictPort
    if [ -x /usr/bin/chromium ] && command -v certutil >/dev/null; then
        if [ "$instance" = a ]; then
            expect "by ws://a.$name.localhost:" page http
            mkdir -p "$scratch/user"
            expect "installed" env -u JAVA_HOME HOME="$scratch/user" "$AGENTFS_BIN" trust
        else
            # A browser that comes by http is sent on.
            expect "hot at https://b.$name.localhost:" page http
        fi
        expect "by wss://$instance.$name.localhost:" page https
    else
        note="without Chromium or certutil: no page was opened"
    fi
}
