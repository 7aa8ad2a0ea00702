"""FastAPI with a WebSocket: serves what the file `own` in the working directory says."""
import os
import pathlib

import fastapi

app = fastapi.FastAPI()
text = pathlib.Path("own").read_text(encoding="utf-8").strip()


@app.get("/")
def index(request: fastapi.Request):
    return {"text": text, "pid": os.getpid(), "peer": request.client.host}


@app.websocket("/socket")
async def socket(websocket: fastapi.WebSocket):
    await websocket.accept()
    await websocket.send_text(text + " " + await websocket.receive_text())
    await websocket.close()
