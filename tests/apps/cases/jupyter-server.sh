program="Jupyter server"
what="jupyter server, port 8888; a kernel runs code (its five ports, ZeroMQ over TCP)"
port=8888 path="/files/own.txt?token=secret"
version() { "$python/jupyter" server --version; }
setup() { echo "$own" >own.txt; }
start() {
    wrap env HOME="$folder" JUPYTER_RUNTIME_DIR="$folder/runtime" "$python/jupyter" server --allow-root --no-browser \
        --ServerApp.root_dir="$folder" --IdentityProvider.token=secret --ServerApp.allow_remote_access=True
}
check() { expect "answer 42" inside "$python/python" "$APPS/jupyter_kernel.py" http://localhost:8888; }
