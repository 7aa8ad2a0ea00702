program="RabbitMQ (Erlang)"
what="port 5672, the distribution port 25672 and epmd 4369, management-free; rabbitmqctl from exec"
port=5672 http=no patience=100
version() { dpkg-query -W -f '${Version}' rabbitmq-server; }
setup() {
    cat >env.sh <<END
export HOME=$folder RABBITMQ_MNESIA_BASE=$folder/mnesia RABBITMQ_LOG_BASE=$folder/log.d RABBITMQ_NODENAME=own@localhost
export RABBITMQ_ENABLED_PLUGINS_FILE=$folder/plugins RABBITMQ_PID_FILE=$folder/pid ERL_MAX_PORTS=1024 RABBITMQ_CONF_ENV_FILE=$folder/none
END
    mkdir mnesia log.d; : >none; echo '[].' >plugins
    printf '#!/bin/sh\n. %s/env.sh\nexec /usr/lib/rabbitmq/bin/"$@"\n' "$folder" >rabbit; chmod +x rabbit
}
start() { wrap ./rabbit rabbitmq-server; }
ready() { inside ./rabbit rabbitmqctl await_startup --timeout 5; }
check() {
    expect "own@localhost" inside ./rabbit rabbitmqctl status
    expect "AMQP" inside "$python/python" -c 'import socket; s = socket.create_connection(("localhost", 5672)); s.sendall(b"AMQP\0\0\x09\x01"); s.settimeout(5); print(s.recv(100)); s.close(); s = socket.create_connection(("localhost", 5672)); s.sendall(b"HTTP\0\0\0\0"); s.settimeout(5); print(s.recv(100))'
    ! taken 25672 || fail "port 25672 of the host is taken"
    ! taken 4369 || fail "port 4369 of the host is taken"
}
stop() { inside ./rabbit rabbitmqctl shutdown >/dev/null 2>&1; agentfs -q stop "$name/$instance" --timeout 10; true; }
