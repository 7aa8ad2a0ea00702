program="Java HttpServer"
what="port 8080"
port=8080
version() { java -version 2>&1 | head -n 1 | tr -d \"; }
setup() { echo "$own" >own; }
start() { wrap java -Xmx64m "$APPS/HttpOwn.java"; }
check() { expect "peer=127.0.0.1" inside curl -s 127.0.0.1:8080; }
