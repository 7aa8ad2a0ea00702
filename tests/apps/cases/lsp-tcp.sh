program="LSP server over TCP"
what="python-lsp-server --tcp, port 2087: initialize"
port=2087 http=no
version() { "$python/pylsp" --version; }
setup() { :; }
start() { wrap "$python/pylsp" --tcp --port 2087 --host 127.0.0.1; }
check() { expect capabilities inside "$python/python" "$APPS/lsp_client.py" 2087; }
