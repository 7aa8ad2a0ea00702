program="Python http.server"
what="python3 -m http.server 8000"
port=8000 path=/own
version() { python3 --version; }
setup() { echo "$own" >own; }
start() { wrap python3 -m http.server 8000; }
