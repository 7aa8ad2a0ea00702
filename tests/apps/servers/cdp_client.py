"""cdp_client.py PORT: asks Chromium's debugging port for its page and prints the page's text."""
import json
import sys
import time
import urllib.request

from websockets.sync.client import connect

with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/json/list", timeout=10) as answer:
    target = next(page for page in json.load(answer) if page["type"] == "page")["webSocketDebuggerUrl"]
with connect(target, proxy=None, max_size=None) as page:
    for number in range(50):
        page.send(json.dumps({"id": number, "method": "Runtime.evaluate", "params": {"expression": "document.body.innerText"}}))
        text = json.loads(page.recv(timeout=10))["result"]["result"].get("value", "")
        if text:
            break
        time.sleep(0.1)
    print(text)
