"""Reads OTLP export requests with the PyPI package `opentelemetry-proto`, for tests: `python3 otlp.py FOLDER`, where
FOLDER is what `pip install --target` was given. Reads lines of base64 from stdin and prints each request as a line of
JSON, ids in hex.
"""

import base64
import json
import sys

sys.path.insert(0, sys.argv[1])

from google.protobuf.json_format import MessageToDict  # noqa: E402  (found only in that folder)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: E402

IDS = ("traceId", "spanId", "parentSpanId")


def hexed(value):
    """Protobuf's JSON has bytes in base64, OTLP's has ids in hex."""
    if isinstance(value, list):
        return [hexed(item) for item in value]
    if isinstance(value, dict):
        return {k: base64.b64decode(v).hex() if k in IDS else hexed(v) for k, v in value.items()}
    return value


for line in sys.stdin:
    request = ExportTraceServiceRequest.FromString(base64.b64decode(line))
    print(json.dumps(hexed(MessageToDict(request))))
