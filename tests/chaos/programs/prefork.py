"""A pre-forking server on 127.0.0.1:PORT: three children accept on one socket; one that dies is replaced.

With `shared` as the second argument each child binds for itself with SO_REUSEPORT.
"""
import json
import os
import signal
import socket
import sys

BODY = f"{os.environ['AGENTFS_APP']}/{os.environ['AGENTFS_INSTANCE']}".encode()
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' % (len(BODY), BODY)
CHILDREN = 3


def listener(port, shared):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        server.bind(('127.0.0.1', port))
        server.listen(64)
    except OSError as error:
        print(json.dumps({'call': 'bind', 'errno': error.errno}), flush=True)
        sys.exit(1)
    return server


def serve(server):
    while True:
        connection, _ = server.accept()
        try:
            connection.settimeout(20)
            if connection.recv(4096):
                connection.sendall(ANSWER)
        except OSError:
            pass  # the client went away
        finally:
            connection.close()


def child(server, port, shared):
    """Forks one; returns when it accepts."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        try:
            if shared:
                server.close()
                server = listener(port, True)
            os.close(ready)
            os.write(tell, b'!')
            os.close(tell)
            serve(server)
        finally:
            os._exit(1)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    return pid


def main():
    port, shared = int(sys.argv[1]), sys.argv[2:] == ['shared']
    server = listener(port, shared)
    children = [child(server, port, shared) for _ in range(CHILDREN)]
    # Asked for a crash, it kills a child of its own.
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(children[0], signal.SIGKILL))
    if shared:
        # Connections that this member gets would wait for ever.
        server.close()
    print('listening', flush=True)
    while True:
        pid, _ = os.wait()
        children.remove(pid)
        children.append(child(server, port, shared))


if __name__ == '__main__':
    main()
