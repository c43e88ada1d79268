"""What a client of an older OpenAPI document would stumble over in a newer one.

A request may come to allow more and an answer to say less: so all that an old request could hold
must fit the new schema, and all that a new answer can hold the old one. Beside that nothing that a
client may refer to by name is taken away, and answers may gain properties. `not` and conditions are
not looked at.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

LIMITS = (
    ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"),
    ("minLength", "", "maxLength", ""),
    ("minItems", "", "maxItems", ""),
    ("minProperties", "", "maxProperties", ""),
)
ALIKE = ("pattern", "format", "multipleOf", "uniqueItems", "contentEncoding", "contentMediaType")
"""Keywords that narrow a schema, and of which none is known to be narrower than another."""


def may_break(old_version: str, new_version: str) -> bool:
    """Whether the version says so: by its major number, or while that is 0 by its minor one."""
    old, new = (tuple(map(int, text.split("."))) for text in (old_version, new_version))
    return new[:1] > old[:1] if old[0] else new[:2] > old[:2]


def breaking_changes(old: Json, new: Json) -> list[str]:
    """A sentence for each change from one document to another that breaks a client."""
    return list(_Change(old, new).of_paths())


@dataclass(frozen=True)
class _Change:
    """From one document to another."""

    old: Json
    new: Json
    under_way: set[str] = field(default_factory=set)
    """Pairs of schemas that are being compared, which may hold themselves."""

    def of_paths(self) -> Iterator[str]:
        for path, item in self.old["paths"].items():
            for method in METHODS:
                if method in item:
                    old, new = item, self.new["paths"].get(path, {})
                    at = f"{method.upper()} {path}"
                    if method in new:
                        yield from self._of_operation(old, new, method, at)
                    else:
                        yield f"{at} is gone"

    def _of_operation(self, old_item: Json, new_item: Json, method: str, at: str) -> Iterator[str]:
        old, new = old_item[method], new_item[method]
        if old.get("operationId") != new.get("operationId"):
            yield f"{at}: operationId {old.get('operationId')} is gone"
        yield from self._of_parameters(
            _parameters(self.old, old_item, old), _parameters(self.new, new_item, new), at
        )
        yield from self._of_body(
            _plain(self.old, old.get("requestBody", {})),
            _plain(self.new, new.get("requestBody", {})),
            f"{at}: body",
        )
        for status, response in old["responses"].items():
            if status in new["responses"]:
                yield from self._of_response(
                    _plain(self.old, response),
                    _plain(self.new, new["responses"][status]),
                    f"{at}: {status}",
                )
            else:
                yield f"{at}: {status} is gone"

    def _of_parameters(self, old: Json, new: Json, at: str) -> Iterator[str]:
        for name in new:
            if new[name].get("required") and not old.get(name, {}).get("required"):
                yield f"{at}: {name} must be given"
        for name in old:
            if name not in new:
                yield f"{at}: {name} is gone"
                continue
            schemas = old[name].get("schema", {}), new[name].get("schema", {})
            defaults = [schema.get("default") for schema in schemas]
            if defaults[0] not in (None, defaults[1]):
                yield f"{at}: {name}: default {defaults[0]} became {defaults[1]}"
            yield from self._of_schema(*schemas, f"{at}: {name}", asked=True)

    def _of_body(self, old: Json, new: Json, at: str) -> Iterator[str]:
        if new.get("required") and not old.get("required"):
            yield f"{at} must be given"
        yield from self._of_content(old.get("content", {}), new.get("content", {}), at, asked=True)

    def _of_response(self, old: Json, new: Json, at: str) -> Iterator[str]:
        yield from self._of_content(old.get("content", {}), new.get("content", {}), at, asked=False)
        headers = new.get("headers", {})
        yield from (
            f"{at}: {name} is gone" for name in old.get("headers", {}) if name not in headers
        )

    def _of_content(self, old: Json, new: Json, at: str, *, asked: bool) -> Iterator[str]:
        for media_type, described in old.items():
            where = f"{at}: {media_type}"
            if media_type in new:
                schemas = described.get("schema", {}), new[media_type].get("schema", {})
                yield from self._of_schema(*schemas, where, asked=asked)
            else:
                yield f"{where} is gone"

    def _of_schema(self, old: Json, new: Json, at: str, *, asked: bool) -> Iterator[str]:
        """Of what is asked or else answered: each kind of value that may come must fit one."""
        pair = f"{old} {new} {asked}"
        if pair in self.under_way:
            return
        self.under_way.add(pair)
        olds, news = _kinds(self.old, old), _kinds(self.new, new)
        for kind in olds if asked else news:
            pairs = (
                [(kind, other) for other in news] if asked else [(other, kind) for other in olds]
            )
            yield from min((list(self._of_kind(*two, at, asked)) for two in pairs), key=len)
        self.under_way.remove(pair)

    def _of_kind(self, old: Json, new: Json, at: str, asked: bool) -> Iterator[str]:
        comes, fits = (old, new) if asked else (new, old)
        types = comes.get("type"), fits.get("type")
        if types[1] not in (None, types[0]) and types != ("integer", "number"):
            yield f"{at}: {old.get('type', 'anything')} became {new.get('type', 'anything')}"
            return
        yield from _of_values(old, new, at, asked)
        for limits in LIMITS:
            if not (_lower(comes, *limits[:2]) >= _lower(fits, *limits[:2])):
                yield f"{at}: {limits[0]} was changed"
            if not (_upper(comes, *limits[2:]) <= _upper(fits, *limits[2:])):
                yield f"{at}: {limits[2]} was changed"
        for keyword in ALIKE:
            if fits.get(keyword) not in (None, comes.get(keyword)):
                yield f"{at}: {keyword} was changed"
        yield from self._of_properties(old, new, at, asked)
        yield from self._of_items(old, new, at, asked)

    def _of_properties(self, old: Json, new: Json, at: str, asked: bool) -> Iterator[str]:
        olds, news = old.get("properties", {}), new.get("properties", {})
        needs = [set(schema.get("required", ())) for schema in (old, new)]
        for name, schema in olds.items():
            if name in news:
                yield from self._of_schema(schema, news[name], f"{at}: {name}", asked=asked)
            else:
                yield f"{at}: {name} is gone"
        if asked:
            yield from (f"{at}: {name} must be given" for name in sorted(needs[1] - needs[0]))
        else:
            yield from (
                f"{at}: {name} may be missing"
                for name in sorted((needs[0] - needs[1]) & news.keys())
            )
        others = [schema.get("additionalProperties", True) for schema in (old, new)]
        if asked and others[1] is False and others[0] is not False:
            yield f"{at}: other properties are refused"
        elif False not in others:
            yield from self._of_schema(*others, f"{at}: other properties", asked=asked)

    def _of_items(self, old: Json, new: Json, at: str, asked: bool) -> Iterator[str]:
        firsts = [schema.get("prefixItems", []) for schema in (old, new)]
        rests = [schema.get("items", {}) for schema in (old, new)]
        for index in range(max(map(len, firsts)) + 1):
            pair = [
                first[index] if index < len(first) else rest
                for first, rest in zip(firsts, rests, strict=True)
            ]
            yield from self._of_schema(*pair, f"{at}: item {index}", asked=asked)


def _of_values(old: Json, new: Json, at: str, asked: bool) -> Iterator[str]:
    olds, news = _values(old), _values(new)
    if olds is not None and news is not None:
        yield from (f"{at}: {value!r} is gone" for value in olds if value not in news)
        if not asked:
            yield from (f"{at}: {value!r} is new" for value in news if value not in olds)
    elif (news if asked else olds) is not None:
        was, now = ("any" if values is None else values for values in (olds, news))
        yield f"{at}: its values were {was} and are {now}"


def _values(schema: Json) -> list[Any] | None:
    return schema.get("enum", [schema["const"]] if "const" in schema else None)


def _lower(schema: Json, closed: str, opened: str) -> tuple[float, bool]:
    """The limit, and whether it is none of the values itself."""
    return max((schema.get(closed, -math.inf), False), (schema.get(opened, -math.inf), True))


def _upper(schema: Json, closed: str, opened: str) -> tuple[float, bool]:
    """The limit, and whether it is one of the values itself."""
    return min((schema.get(closed, math.inf), True), (schema.get(opened, math.inf), False))


def _plain(document: Json, node: Json | bool) -> Json:
    """A part of a document without references and `allOf` at its top."""
    if isinstance(node, bool):
        return {} if node else {"enum": []}
    plain = {key: value for key, value in node.items() if key not in ("$ref", "allOf")}
    parts = [_plain(document, part) for part in node.get("allOf", [])]
    if "$ref" in node:
        target: Any = document
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        parts.append(_plain(document, target))
    for part in parts:
        for key, value in part.items():
            match key, plain.get(key):
                case "properties", dict(known):
                    plain[key] = {**value, **known}
                case "required", list(known):
                    plain[key] = [*known, *value]
                case _:
                    plain.setdefault(key, value)
    return plain


def _kinds(document: Json, schema: Json) -> list[Json]:
    """The alternatives that a schema allows, each of one type."""
    plain = _plain(document, schema)
    for union in ("anyOf", "oneOf"):
        if union in plain:
            rest = {key: value for key, value in plain.items() if key != union}
            options = plain[union]
            return [kind for one in options for kind in _kinds(document, {"allOf": [rest, one]})]
    if isinstance(plain.get("type"), list):
        return [{**plain, "type": one} for one in plain["type"]]
    return [plain]


def _parameters(document: Json, item: Json, operation: Json) -> dict[str, Json]:
    """By place and name, a header's in lower case; an operation's win over those of its path."""
    found = {}
    for parameter in (*item.get("parameters", []), *operation.get("parameters", [])):
        known = _plain(document, parameter)
        name = known["name"].lower() if known["in"] == "header" else known["name"]
        found[f"{known['in']} {name}"] = known
    return found
