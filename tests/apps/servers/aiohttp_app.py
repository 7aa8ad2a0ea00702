"""aiohttp on its default port: serves what the file `own` in the working directory says."""
import pathlib

from aiohttp import web

text = pathlib.Path("own").read_text(encoding="utf-8").strip()


async def index(request):
    return web.Response(text=f"{text} peer={request.remote}")


app = web.Application()
app.router.add_get("/", index)
web.run_app(app)
