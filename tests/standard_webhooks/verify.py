"""Verifies signed requests with the PyPI package `standardwebhooks`, for tests: `python3 verify.py FOLDER`, where
FOLDER is what `pip install --target` was given. Reads JSON lines {"secret", "headers", "body_base64"} from stdin and
prints a line for each: `ok`, or `bad` and why.
"""

import base64
import json
import sys

sys.path.insert(0, sys.argv[1])

from standardwebhooks import Webhook  # noqa: E402  (found only in that folder)

for line in sys.stdin:
    request = json.loads(line)
    try:
        Webhook(request["secret"]).verify(base64.b64decode(request["body_base64"]), request["headers"])
        print("ok")
    except Exception as error:  # whatever it objects to, the request was not verified
        print("bad", error)
