"""A WSGI application that serves what the file `own` in the working directory says."""
import os


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    with open("own", encoding="utf-8") as file:
        return [f"{file.read()} pid={os.getpid()} peer={environ['REMOTE_ADDR']}\n".encode()]
