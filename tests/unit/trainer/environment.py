"""A process that says what it finds in its environment, as JSON: `python -m tests.unit.trainer.environment`."""

import json
import os
import sys

if __name__ == "__main__":
    sys.stdout.write(json.dumps(dict(os.environ)))
