"""jupyter_kernel.py URL: starts a kernel there, has it print 6*7 and its pid, prints the answer, ends it."""
import json
import sys
import urllib.request
import uuid

from websockets.sync.client import connect

base, token = sys.argv[1], "?token=secret"


def call(method, path):
    request = urllib.request.Request(base + path + token, method=method, data=b"{}" if method == "POST" else None)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


kernel = call("POST", "/api/kernels")["id"]
session = uuid.uuid4().hex
with connect(base.replace("http", "ws") + f"/api/kernels/{kernel}/channels{token}", proxy=None) as channel:
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": session,
              "version": "5.3", "date": "2020-01-01T00:00:00Z"}
    channel.send(json.dumps({"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "buffers": [],
                             "content": {"code": "print('answer', 6*7)", "silent": False, "store_history": False,
                                         "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}}))
    while True:
        message = json.loads(channel.recv(timeout=30))
        if message.get("msg_type") == "stream":
            print(message["content"]["text"])
            break
call("DELETE", f"/api/kernels/{kernel}")
