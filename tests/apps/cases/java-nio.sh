program="Java NIO selector server"
what="port 8080, non-blocking connect to itself"
port=8080
version() { java -version 2>&1 | head -n 1 | tr -d \"; }
setup() { echo "$own" >own; }
start() { wrap java -Xmx64m "$APPS/NioOwn.java"; }
check() { expect "self peer=127.0.0.1" inside curl -s 127.0.0.1:8080; }
