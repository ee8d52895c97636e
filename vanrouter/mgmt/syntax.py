"""The three syntaxes of a configuration file: text in, raw sections with line numbers out. Layer: 2, pure.

Source: management specification, section 10. The C router rewrites conf lines into JSON, so that quotes and backslashes
in values break its files; here a value is the rest of its line and nothing in it is special.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import yaml

from vanrouter.errors import ConfigError

MAX_YAML_NODES = 1_000_000
"""Values that one YAML file may hold after aliases are expanded."""

JSON_BLOCKS = frozenset({"openProperties", "groups"})
"""Attributes whose braces in conf syntax hold literal JSON."""

_NAME = r"[A-Za-z][A-Za-z0-9_-]*"
_SECTION = re.compile(rf"({_NAME})\s*\{{")
_ATTRIBUTE = re.compile(rf"({_NAME})\s*:\s*(.*)")
_NESTED = re.compile(r"([$A-Za-z0-9_*./-]+)\s*:?\s*\{")
_NESTED_ATTRIBUTE = re.compile(r"([$A-Za-z0-9_*./-]+)\s*:\s*(.*)")
_WORD_AS_IT_STANDS = re.compile(r"\s*(pattern|hostname|bindingKey|binding-key|binding_key)\s*:\s*(\S+)")
"""Values that may hold `#`: the first word counts, the rest of the line is ignored."""

_NULL = "tag:yaml.org,2002:null"


@dataclass(slots=True, kw_only=True)
class RawSection:
    """One section as written: values are text, or what JSON and nested maps give."""

    name: str
    line: int
    values: dict[str, object] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)

    def put(self, name: str, value: object, line: int) -> None:
        """Store an attribute; the last one of a name wins, as in the C router."""
        if name in self.values:
            self.repeated.append(name)
        self.values[name] = value
        self.lines[name] = line


def parse(text: str, file: str) -> list[RawSection]:
    """Return the sections of a file; its name decides the syntax.

    Raises:
        ConfigError: with file, line and what would be right.
    """
    lower = file.lower()
    parser: Callable[[str, str], list[RawSection]] = parse_conf
    if lower.endswith(".json"):
        parser = parse_json
    elif lower.endswith((".yaml", ".yml")):
        parser = parse_yaml
    try:
        return parser(text, file)
    except RecursionError:
        raise ConfigError("", "values are nested too deeply", file=file) from None


def camel_case(name: str) -> str:
    """Return `ssl-profile` and `ssl_profile` as `sslProfile`."""
    first, *rest = re.split(r"[-_]+", name)
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


# --- conf ---


def parse_conf(text: str, file: str) -> list[RawSection]:
    """Return the sections of the conf syntax."""
    return list(_ConfParser(text, file).sections())


class _ConfParser:
    def __init__(self, text: str, file: str) -> None:
        self._lines = text.split("\n")
        self._file = file
        self._at = 0

    def sections(self) -> Iterator[RawSection]:
        while (line := self._next()) is not None:
            match = _SECTION.fullmatch(line)
            if match is None:
                raise self._error(
                    "", f"expected a section such as `listener {{`, with the brace ending the line, not {line!r}"
                )
            section = RawSection(name=camel_case(match[1]), line=self._at)
            self._attributes(section)
            yield section

    def _attributes(self, section: RawSection) -> None:
        while (line := self._next()) is not None:
            if line == "}":
                return
            match = _ATTRIBUTE.fullmatch(line)
            if match is not None and not match[2].startswith("{"):
                section.put(camel_case(match[1]), match[2], self._at)
                continue
            nested = _SECTION.fullmatch(line) or (match if match is not None and match[2] == "{" else None)
            if nested is None:
                wanted = "expected `name: value`, or `}` alone on its line"
                raise self._error(section.name, f"{wanted}, not {line!r}")
            name, start = camel_case(nested[1]), self._at
            key = f"{section.name}.{name}"
            section.put(
                name, self._json_block(key) if name in JSON_BLOCKS and match is not None else self._map(key), start
            )
        raise self._error(section.name, f"the section that begins in line {section.line} has no closing `}}`")

    def _map(self, key: str) -> dict[str, object]:
        values: dict[str, object] = {}
        while (line := self._next()) is not None:
            if line == "}":
                return values
            nested = _NESTED.fullmatch(line)
            if nested is not None:
                values[nested[1]] = self._map(f"{key}.{nested[1]}")
                continue
            match = _NESTED_ATTRIBUTE.fullmatch(line)
            if match is None:
                raise self._error(key, f"expected `name: value`, or `}}` alone on its line, not {line!r}")
            values[match[1]] = match[2]
        raise self._error(key, "no closing `}`")

    def _json_block(self, key: str) -> object:
        start, depth, block = self._at, 1, ["{"]
        while depth > 0:
            line = self._next()
            if line is None:
                raise self._error(key, f"the braces opened in line {start} are not closed")
            block.append(line)
            outside = _outside_strings(line)
            depth += outside.count("{") - outside.count("}")
        try:
            return json.loads(_without_trailing_commas("\n".join(block)), object_pairs_hook=_unique_keys)
        except json.JSONDecodeError as error:
            line_number = min(start + error.lineno - 1, self._at)
            raise ConfigError(key, f"not JSON: {error.msg}", file=self._file, line=line_number) from None
        except ValueError as error:
            raise ConfigError(key, str(error), file=self._file, line=start) from None

    def _next(self) -> str | None:
        """Return the next line that says something, without comment and surrounding blanks."""
        while self._at < len(self._lines):
            raw = self._lines[self._at]
            self._at += 1
            word = _WORD_AS_IT_STANDS.match(raw)
            line = f"{word[1]}: {word[2]}" if word is not None else raw.partition("#")[0].strip()
            if line:
                return line
        return None

    def _error(self, key: str, reason: str) -> ConfigError:
        return ConfigError(key, reason, file=self._file, line=max(self._at, 1))


_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def _outside_strings(line: str) -> str:
    return _JSON_STRING.sub("", line)


def _without_trailing_commas(text: str) -> str:
    """Return JSON text without commas that end a list or map; strings stay as they are."""
    pieces, last = [], 0
    for string in _JSON_STRING.finditer(text):
        pieces += [re.sub(r",(\s*[}\]])", r"\1", text[last : string.start()]), string[0]]
        last = string.end()
    pieces.append(re.sub(r",(\s*[}\]])", r"\1", text[last:]))
    return "".join(pieces)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"{key!r} is given twice in one map")
        result[key] = value
    return result


# --- JSON ---


def parse_json(text: str, file: str) -> list[RawSection]:
    """Return the sections of the JSON form: a list of `["type", {attributes}]`."""
    clean = "\n".join("" if line.lstrip().startswith("#") else line for line in text.split("\n"))
    try:
        document = json.loads(clean, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise ConfigError("", f"not JSON: {error.msg}", file=file, line=error.lineno) from None
    except ValueError as error:
        raise ConfigError("", str(error), file=file) from None
    shape = 'a list of pairs such as ["listener", {"port": "5672"}]'
    if not isinstance(document, list):
        raise ConfigError("", f"expected {shape}", file=file, line=1)
    sections = []
    for item, start, end in _items_with_places(clean, len(document)):
        line = clean.count("\n", 0, start) + 1
        if not (isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], dict)):
            raise ConfigError("", f"expected {shape}", file=file, line=line)
        section = RawSection(name=camel_case(item[0]), line=line)
        for name, value in item[1].items():
            found = re.compile(re.escape(json.dumps(name)) + r"\s*:").search(clean, start, end)
            attribute_line = line if found is None else clean.count("\n", 0, found.start()) + 1
            section.put(name, value, attribute_line)
        sections.append(section)
    return sections


def _items_with_places(text: str, count: int) -> Iterator[tuple[object, int, int]]:
    """Yield the items of a JSON list that is known to be sound, each with where it begins and ends."""
    decoder = json.JSONDecoder()
    at = text.index("[") + 1
    for _ in range(count):
        while text[at] in " \t\r\n,":
            at += 1
        item, end = decoder.raw_decode(text, at)
        yield item, at, end
        at = end


# --- YAML ---


def parse_yaml(text: str, file: str) -> list[RawSection]:
    """Return the sections of the YAML forms.

    They are: the JSON structure in YAML; a list of one-key maps; a map from type to one map or a list of maps.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise ConfigError("", f"not YAML: {error.problem or error.context}", file=file, line=line) from None
    except yaml.YAMLError as error:
        raise ConfigError("", f"not YAML: {error}", file=file) from None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == _NULL):
        return []
    return list(_YamlReader(file).sections(root))


class _YamlReader:
    def __init__(self, file: str) -> None:
        self._file = file
        self._nodes = 0

    def sections(self, root: yaml.Node) -> Iterator[RawSection]:
        if isinstance(root, yaml.MappingNode):
            for key, value in root.value:
                items = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for item in items:
                    yield self._section(key, item)
            return
        if not isinstance(root, yaml.SequenceNode):
            raise self._error(root, "", "expected a list of sections such as `- listener: {port: 5672}`")
        for item in root.value:
            if isinstance(item, yaml.MappingNode) and len(item.value) == 1:
                yield self._section(*item.value[0])
            elif isinstance(item, yaml.SequenceNode) and len(item.value) == 2:
                yield self._section(*item.value)
            else:
                raise self._error(item, "", "expected `- type: {attributes}` or `- [type, {attributes}]`")

    def _section(self, key: yaml.Node, value: yaml.Node) -> RawSection:
        if not isinstance(key, yaml.ScalarNode):
            raise self._error(key, "", "the type of a section must be a word such as `listener`")
        section = RawSection(name=camel_case(key.value), line=key.start_mark.line + 1)
        if isinstance(value, yaml.ScalarNode) and value.tag == _NULL:
            return section
        if not isinstance(value, yaml.MappingNode):
            raise self._error(value, section.name, "expected a map of attributes such as `{port: 5672}`")
        for name, item in value.value:
            if not isinstance(name, yaml.ScalarNode):
                raise self._error(name, section.name, "the name of an attribute must be a word")
            section.put(name.value, self._attribute_value(item), name.start_mark.line + 1)
        return section

    def _attribute_value(self, node: yaml.Node) -> object:
        """Return text for a plain value: attributes convert by their own type, and `no` may be a name."""
        if isinstance(node, yaml.ScalarNode):
            return None if node.tag == _NULL else node.value
        return self._native(node)

    def _native(self, node: yaml.Node) -> object:
        self._nodes += 1
        if self._nodes > MAX_YAML_NODES:
            raise self._error(node, "", "too many values after aliases are expanded")
        if isinstance(node, yaml.MappingNode):
            return {self._native_key(key): self._native(value) for key, value in node.value}
        if isinstance(node, yaml.SequenceNode):
            return [self._native(item) for item in node.value]
        return self._scalar(node)

    def _native_key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, "", "keys must be words")
        return str(node.value)

    def _scalar(self, node: yaml.Node) -> object:
        constructor = yaml.constructor.SafeConstructor()
        kind = node.tag.rpartition(":")[2]
        if kind == "null":
            return None
        if kind not in ("bool", "int", "float"):
            return node.value
        try:
            return constructor.construct_object(node)
        except (ValueError, KeyError):
            raise self._error(node, "", f"{node.value!r} is not a valid {kind}") from None

    def _error(self, node: yaml.Node, key: str, reason: str) -> ConfigError:
        return ConfigError(key, reason, file=self._file, line=node.start_mark.line + 1)
