"""Verifies requests signed as Slack does with the PyPI package `slack_sdk`, for tests: `python3 verify.py FOLDER`,
where FOLDER is what `pip install --target` was given. Reads JSON lines {"secret", "headers", "body_base64"} from stdin
and prints a line for each: `ok`, or `bad` and why.
"""

import base64
import json
import sys

sys.path.insert(0, sys.argv[1])

from slack_sdk.signature import SignatureVerifier  # noqa: E402  (found only in that folder)

for line in sys.stdin:
    request = json.loads(line)
    body = base64.b64decode(request["body_base64"])
    valid = SignatureVerifier(request["secret"]).is_valid_request(body, request["headers"])
    print("ok" if valid else "bad slack_sdk says no")
