"""websocket_client.py URL [HOST] sends `hello` and prints the answer; HOST is sent as the Host header."""
import sys

from websockets.sync.client import connect

headers = {}
url, host = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
sock = None
if host:
    import socket
    import urllib.parse

    address = urllib.parse.urlsplit(url)
    sock = socket.create_connection((address.hostname, address.port))
    url = url.replace(address.netloc, host)
with connect(url, sock=sock, additional_headers=headers, proxy=None) as connection:
    connection.send("hello")
    print(connection.recv(timeout=10))
