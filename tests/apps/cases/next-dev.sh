program="Next.js"
what="next dev, port 3000"
port=3000 patience=90
version() { node -p "require('$APPS_HOME/node/node_modules/next/package.json').version" 2>/dev/null; }
setup() {
    # Next wants its packages below the project's own folder.
    mkdir app node_modules; for part in "$APPS_HOME"/node/node_modules/* "$APPS_HOME"/node/node_modules/@*; do ln -sfn "$part" node_modules/; done
    echo '{"name":"x","private":true}' >package.json
    echo "export default function Page() { return <p>$own</p>; }" >app/page.js
    echo 'export default function Layout({ children }) { return <html><body>{children}</body></html>; }' >app/layout.js
}
start() { wrap env NEXT_TELEMETRY_DISABLED=1 node "$APPS_HOME/node/node_modules/next/dist/bin/next" dev --webpack; }
