"""The protocol's description of a server, OpenAPI 3.1: its own addresses with its models' names in them."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any, TypeAlias

from ebjr_det.serving.protocol import IMAGE, LARGEST_BATCH, LENGTH, InferBody
from ebjr_det.serving.rule import FORCES

Schema: TypeAlias = dict[str, Any]
"""A part of the description, as JSON has it."""
RULE: dict[str, Schema] = {
    "threshold": {"type": "number", "description": "Defer where score > threshold."},
    "deferral_rate": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "The threshold with this share on the reference scores.",
    },
    "force": {"enum": list(FORCES), "description": "Who answers every picture."},
    "max_latency_ms": {"type": "number", "exclusiveMinimum": 0, "description": "From arrival to answer."},
}
"""What a request may say about how its pictures are decided."""
FAULTS = {
    "400": "A tensor, parameter or picture that is wrong.",
    "413": "A body that is too large.",
    "415": "A packing other than gzip and deflate.",
    "503": "No room, or no teacher where it is forced. Retry-After says when to come again.",
    "504": "No answer in time.",
}
TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}


def _object(properties: Mapping[str, Schema], **keywords: object) -> Schema:
    return {"type": "object", "properties": dict(properties), "required": list(properties), **keywords}


def _list(items: Schema, **keywords: object) -> Schema:
    return {"type": "array", "items": items, **keywords}


def _reply(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


TENSOR = _object({"name": TEXT, "datatype": TEXT, "shape": _list({"type": "integer"})})
PARAMETERS = {"type": "object"}
TIMES = _object({"count": COUNT, "ns": COUNT})
STATISTICS = _object(
    {
        "model_stats": _list(
            _object(
                {
                    "name": TEXT,
                    "version": TEXT,
                    "last_inference": COUNT,
                    "inference_count": COUNT,
                    "execution_count": COUNT,
                    "inference_stats": {"type": "object", "additionalProperties": TIMES},
                    "batch_stats": _list(_object({"batch_size": COUNT, "compute_infer": TIMES})),
                }
            )
        )
    }
)
ANSWER = _object(
    {"model_name": TEXT, "model_version": TEXT, "parameters": PARAMETERS, "outputs": _list(TENSOR)}
)
SERVER = _object({"name": TEXT, "version": TEXT, "extensions": _list(TEXT)})
MODEL = _object({"name": TEXT, "versions": _list(TEXT), "inputs": _list(TENSOR), "outputs": _list(TENSOR)})
READY = _object({"ready": {"type": "boolean"}, "name": TEXT})
ERROR = _object({"error": TEXT})


def _read(summary: str, schema: Schema, faults: Iterable[str] = ()) -> Schema:
    """An address that is read."""
    replies = {"200": _reply(summary, schema)} | {code: _fault(FAULTS[code]) for code in faults}
    return {"get": {"summary": summary, "responses": replies}}


def _fault(description: str) -> Schema:
    return _reply(description, {"$ref": "#/components/schemas/Error"})


def _infer() -> Schema:
    """An inference: JSON, JSON with raw bytes behind it, or the bytes of one picture."""
    query: list[Schema] = [{"name": name, "in": "query", "schema": schema} for name, schema in RULE.items()]
    length = {"name": LENGTH, "in": "header", "schema": COUNT, "description": "Of the JSON before raw bytes."}
    raw = {"schema": {"type": "string", "format": "binary"}}
    body = {"application/json": {"schema": {"$ref": "#/components/schemas/InferBody"}}}
    answers = {"application/json": {"schema": ANSWER}, "application/octet-stream": raw}
    faults = {code: _fault(text) for code, text in FAULTS.items()}
    return {
        "post": {
            "summary": "The answers to 1 to 64 pictures, and who gave them",
            "parameters": [*query, length],
            "requestBody": {"required": True, "content": body | {"application/octet-stream": raw}},
            "responses": {"200": {"description": "Answers.", "content": answers}, **faults},
        }
    }


def _body() -> Schema:
    """The JSON of a request, tighter than what its class checks at once."""
    schema = InferBody.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: Schema = schema.pop("$defs")
    two = [{"required": list(pair)} for pair in combinations(list(RULE)[:3], 2)]
    schema["properties"]["parameters"] = {"type": "object", "properties": RULE, "not": {"anyOf": two}}
    tensor = parts["InputTensor"]["properties"]
    tensor["name"], tensor["datatype"] = {"const": IMAGE}, {"enum": ["BYTES", "UINT8"]}
    size = {"type": "integer", "minimum": 1, "maximum": LARGEST_BATCH}
    tensor["shape"] |= {"prefixItems": [size], "minItems": 1}
    return {**parts, "InferBody": schema}


def describe(models: Iterable[str], version: str, *, admin: bool = True) -> Schema:
    """The description of a server with these models, by `admin` with the addresses that load them."""
    names = list(models)
    paths: dict[str, Schema] = {
        "/v2": _read("The server and its extensions", SERVER),
        "/v2/health/live": _read("Whether the process answers", _object({"live": {"type": "boolean"}})),
        "/v2/health/ready": _read("Whether requests are taken", READY, ["503"]),
        "/v2/models/stats": _read("What was counted, of all models", STATISTICS),
    }
    for base in [f"/v2/models/{name}{version}" for name in names for version in ("", "/versions/1")]:
        paths |= {
            base: _read("The model and its tensors", MODEL),
            f"{base}/ready": _read("Whether requests are taken", READY, ["503"]),
            f"{base}/stats": _read("What was counted", STATISTICS),
            f"{base}/infer": _infer(),
        }
    denied = _fault("From another machine.")
    replies = {"200": _reply("Read anew.", PARAMETERS), "400": _fault("Not read."), "403": denied}
    replies |= {code: _fault(FAULTS[code]) for code in ("413", "415")}
    replies |= {"503": _fault("Another reload is under way.")}
    empty = {"type": "object", "maxProperties": 0}
    schema = {"type": "object", "properties": {"parameters": empty}, "additionalProperties": False}
    body = {"content": {"application/json": {"schema": schema}}}
    for name in names if admin else ():
        load: Schema = {"summary": "Read the pair anew, from this machine alone", "responses": replies}
        load["requestBody"] = body
        paths[f"/v2/repository/models/{name}/load"] = {"post": load}
    title = "Student and teacher behind the Open Inference Protocol, version 2"
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": {**_body(), "Error": ERROR}},
    }
