"""`python -m services.ops`: the commands of the suite without the client's `trivium`."""

from services.ops.cli import app

if __name__ == "__main__":
    app(prog_name="python -m services.ops")
