"""The HTTP API as a page."""

from __future__ import annotations

from typing import Any

from stream_ad.service.app import make_app
from stream_ad.settings import Settings

__all__ = ["http_page"]

_HEAD = """\
# HTTP API

Programs send `Authorization: Bearer TOKEN`; [the page](page.md) describes tokens and roles. Errors are
`application/problem+json` with `status`, `title` and `detail`: 401 no token or a wrong one, 403 the role is not
sufficient, 404, 422 an invalid request, 429 too many requests (`Retry-After`), 503 the store or the broker is
unreachable (`Retry-After`). Times are ISO-8601 in UTC. The schema with every field: `/openapi.json`, `/docs`.
`make docs` generates this page.
"""


def http_page() -> str:
    """The whole page, Markdown."""
    schema = make_app(Settings.model_construct()).openapi()
    parts = [_HEAD]
    for path, methods in schema["paths"].items():
        parts += [_operation(method, path, operation) for method, operation in methods.items()]
    parts.append("## Responses\n")
    parts += [_model(name, model) for name, model in sorted(schema["components"]["schemas"].items())]
    return "\n".join(parts) + "\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    lines = [f"## `{method.upper()} {path}`", "", operation.get("description", "").strip(), ""]
    parameters = operation.get("parameters", [])
    if parameters:
        lines += ["| parameter | in | type | meaning |", "|---|---|---|---|"]
    for one in parameters:
        needed = "" if one.get("required") else f", default `{one['schema'].get('default', 'none')}`"
        meaning = one.get("description", one["schema"].get("description", ""))
        lines.append(f"| `{one['name']}` | {one['in']} | {_type(one['schema'])}{needed} | {meaning} |")
    return "\n".join([*lines, ""])


def _model(name: str, model: dict[str, Any]) -> str:
    fields = ", ".join(f"`{field}` ({_type(schema)})" for field, schema in model.get("properties", {}).items())
    text = " ".join(model.get("description", "").split())
    return f"- **{name}**: {text + ' ' if text else ''}{fields}"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    limits = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([str(schema.get("type", "any")), *limits])
