"""lsp_client.py PORT: sends LSP's initialize and prints the answer."""
import json
import socket
import sys

body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize",
                   "params": {"processId": None, "rootUri": None, "capabilities": {}}}).encode()
with socket.create_connection(("localhost", int(sys.argv[1])), timeout=20) as connection:
    connection.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    print(connection.recv(65536).decode())
