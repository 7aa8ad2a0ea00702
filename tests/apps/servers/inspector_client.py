"""inspector_client.py PORT: has Node evaluate 6*7 through its inspector and prints the answer."""
import json
import sys
import urllib.request

from websockets.sync.client import connect

with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/json/list", timeout=10) as answer:
    target = json.load(answer)[0]["webSocketDebuggerUrl"]
with connect(target, proxy=None) as inspector:
    inspector.send(json.dumps({"id": 1, "method": "Runtime.evaluate", "params": {"expression": "6*7"}}))
    print(inspector.recv(timeout=10))
