"""A threaded HTTP server on 0.0.0.0:PORT that answers every request with its instance's name."""
import http.server
import json
import os
import sys

BODY = f"{os.environ['AGENTFS_APP']}/{os.environ['AGENTFS_INSTANCE']}".encode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        """Says nothing."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that went away is no news."""


def main():
    try:
        server = Server(('0.0.0.0', int(sys.argv[1])), Handler)
    except OSError as error:
        print(json.dumps({'call': 'bind', 'errno': error.errno}), flush=True)
        return 1
    print('listening', flush=True)
    server.serve_forever(60)
    return 0


if __name__ == '__main__':
    sys.exit(main())
