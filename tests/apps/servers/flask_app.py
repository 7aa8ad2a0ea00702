"""Flask with the reloader: serves what `own.py` in the working directory says."""
import flask

import own

app = flask.Flask(__name__)


@app.route("/")
def index():
    return f"{own.TEXT} peer={flask.request.remote_addr}"


if __name__ == "__main__":
    app.run(port=5000, debug=True)
