"""Other names for what a piece of code defines, with tree-sitter, which also reads what does not
parse: a model of code should not change its mind.

Renamed are variables, parameters and functions that the text itself defines, everywhere in it
alike. What others may see or say stays: attributes and fields, classes and types, imports, keyword
arguments, macros, labels, overridden methods, and every name that is not defined in the text or
that Python has built in.
"""

import builtins
import random
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Literal, get_args

from attar.data.text import hash_of
from attar.errors import MissingExtraError, require

CodeLanguage = Literal["python", "c", "java"]

_NEW = (
    *("item", "value", "result", "entry", "total", "index", "buffer", "node", "record", "element"),
    *(
        "first",
        "second",
        "current",
        "other",
        "amount",
        "cursor",
        "data",
        "extra",
        "figure",
        "group",
    ),
    *("handle", "info", "job", "label", "mark", "number", "offset", "part", "queue", "row", "slot"),
    *("table", "unit", "vector", "width", "zone", "block", "chunk", "depth", "edge", "field"),
    *("grid", "head", "level", "mode", "owner", "piece", "quota", "rate", "share", "tail", "worth"),
)
"""Words that no language here has built in; when they run out they come again with a number."""
_FIXED = {
    "python": {*dir(builtins), "self", "cls"},
    "c": {"main"},
    "java": {"main", "toString", "equals", "hashCode", "compareTo", "compare", "run", "call"},
}
_REFLECTION = re.compile(r"\b(dir|eval|exec|globals|locals|vars)\s*\(")
_WORD = re.compile(r"[^\W\d]\w*")
_QUALIFIED = {"python": (b".",), "c": (b".", b"->"), "java": (b".", b"::")}
"""What stands before an attribute."""
_IMPORTS = (
    *("import_statement", "import_from_statement", "future_import_statement"),
    *("import_declaration", "package_declaration"),
)
_LABELLED = ("labeled_statement", "break_statement", "continue_statement")

Name = tuple[str, str]
"""What it is, `method` or nothing, and how it is spelt: in Java a method and a variable of one name
are two."""


def rename_identifiers(text: str, language: CodeLanguage, *, seed: int = 0) -> str:
    """The text with other names, the same ones for the same text and seed; everything between the
    names is as it was.

    Args:
        text: a file, a function, or a piece of one.
        language: what it is written in.
        seed: draws the names; those of two texts are drawn apart.

    Raises:
        ConfigError: a language that is not read here.
        MissingExtraError: tree-sitter or a grammar of it is not installed.
    """
    known = get_args(CodeLanguage)
    require(language in known, "language", language, f"one of {', '.join(known)}")
    parser = _parser(language)
    if language == "python" and _REFLECTION.search(text):
        return text
    raw = text.encode("utf-8", "surrogatepass")
    nodes = [*_walk(parser.parse(raw).root_node)]
    identifiers = [node for node in nodes if node.type == "identifier"]
    defined, fixed = {"python": _python, "c": _c, "java": _java}[language](nodes)
    marks = _QUALIFIED[language]
    attributes = [node for node in identifiers if _is_after(marks, node, raw)]
    fixed |= {("method", _spelt(node)) for node in attributes}
    fixed |= {(space, name) for space in ("", "method") for name in _FIXED[language]}
    changed = [
        node
        for node in identifiers
        if _named(node) in defined - fixed
        and not _spelt(node).startswith("__")
        and not _is_after(marks, node, raw)
        and not _says_something_else(node)
    ]
    names = [*dict.fromkeys(map(_named, changed))]
    draw = random.Random(hash_of(f"{seed}\0{text}"))
    fresh = _fresh({*_WORD.findall(text)}, len(names), draw)
    new = dict(zip(names, fresh, strict=True))
    parts, end = [], 0
    for node in changed:  # in the order of the text
        parts += [raw[end : node.start_byte], new[_named(node)].encode()]
        end = node.end_byte
    return b"".join([*parts, raw[end:]]).decode("utf-8", "surrogatepass")


def _parser(language: str) -> Any:
    try:
        library: Any = import_module("tree_sitter")
        grammar: Any = import_module(f"tree_sitter_{language}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"renaming the identifiers of code needs the package {error.name}; run pip install "
            "'.[code]' in the checkout of Attar"
        ) from None
    return library.Parser(library.Language(grammar.language()))


def _fresh(used: set[str], count: int, draw: random.Random) -> list[str]:
    """So many names that are not used."""
    names: list[str] = []
    for turn in range(2 + (count + len(used)) // len(_NEW)):
        words = [f"{word}{turn or ''}" for word in _NEW]
        draw.shuffle(words)
        names += [word for word in words if word not in used]
    return names[:count]


def _walk(root: Any) -> Iterator[Any]:
    """All nodes, in the order of the text."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children))


def _spelt(node: Any) -> str:
    return node.text.decode("utf-8", "surrogatepass")


def _field(node: Any, name: str) -> list[Any]:
    return node.children_by_field_name(name)


def _named(node: Any) -> Name:
    parent = node.parent
    method = parent is not None and parent.type in ("method_declaration", "method_invocation")
    return ("method" if method and node in _field(parent, "name") else "", _spelt(node))


def _is_after(marks: tuple[bytes, ...], node: Any, raw: bytes) -> bool:
    """Whether it is an attribute, however the text around it was read."""
    before = raw[max(0, node.start_byte - 200) : node.start_byte].rstrip()
    return before.endswith(marks) and not before.endswith(b"...")


def _says_something_else(node: Any) -> bool:
    """Whether it is no name of a variable or function."""
    parent = node.parent
    if parent is None:
        return False
    if parent.type == "element_value_pair":
        return node in _field(parent, "key")
    if parent.type in _LABELLED:
        return node == next((c for c in parent.children if c.type == "identifier"), None)
    return False


def _identifiers(node: Any, through: Callable[[str], bool]) -> Iterator[Any]:
    """Those of a node, or within nodes of these types in it."""
    if node.type == "identifier":
        yield node
    elif through(node.type):
        for child in node.children:
            yield from _identifiers(child, through)


def _words(nodes: list[Any]) -> set[Name]:
    found = {word for node in nodes for word in _WORD.findall(_spelt(node))}
    return {(space, word) for space in ("", "method") for word in found}


def _fields(*names: str) -> Callable[[Any], list[Any]]:
    return lambda node: [child for name in names for child in _field(node, name)]


# ---------------------------------------------------------------------------------------- Python


def _python(nodes: list[Any]) -> tuple[set[Name], set[Name]]:
    """The names that are defined, and those that stay."""
    pattern = {
        *("pattern_list", "tuple_pattern", "list_pattern", "list_splat_pattern", "tuple", "list"),
        *("dictionary_splat_pattern", "as_pattern_target"),
    }
    parameters = ("parameters", "lambda_parameters")
    bound = {
        "function_definition": _fields("name"),
        **dict.fromkeys(("default_parameter", "typed_default_parameter"), _fields("name")),
        **dict.fromkeys(("assignment", "for_statement", "for_in_clause"), _fields("left")),
        "named_expression": _fields("name"),
        "as_pattern": _fields("alias"),
        "typed_parameter": lambda node: node.children[:1],
    }
    defined: set[Name] = set()
    stay: list[Any] = []
    for node in nodes:
        if node.type in parameters:
            targets = [c for c in node.children if c.type in {"identifier", *pattern}]
        else:
            targets = bound.get(node.type, lambda _: [])(node)
        for target in targets:
            for name in _identifiers(target, pattern.__contains__):
                if _in_class(node):
                    stay.append(name)
                else:
                    defined.add(_named(name))
        if node.type in (*_IMPORTS, "global_statement", "case_pattern"):
            stay.append(node)
        elif node.type in ("class_definition", "keyword_argument"):
            stay.extend(_field(node, "name"))
    return defined, _words(stay)


def _in_class(node: Any) -> bool:
    """Whether what it binds is an attribute of a class: of the statements around it, the nearest
    that opens a scope is one."""
    node = node.parent
    while node is not None and node.type not in ("function_definition", "lambda"):
        if node.type == "class_definition":
            return True
        node = node.parent
    return False


# --------------------------------------------------------------------------------------------- C


def _c(nodes: list[Any]) -> tuple[set[Name], set[Name]]:
    declarator = {
        *("init_declarator", "pointer_declarator", "array_declarator", "parenthesized_declarator"),
        "attributed_declarator",
    }
    defined: set[Name] = set()
    stay: list[Any] = []
    for node in nodes:
        if node.type in ("preproc_def", "preproc_function_def", "preproc_ifdef", "preproc_defined"):
            stay.append(node) if node.type != "preproc_ifdef" else stay.extend(_field(node, "name"))
        if node.type == "enumerator":
            stay.extend(_field(node, "name"))
        if node.type not in ("function_definition", "declaration", "parameter_declaration"):
            continue
        through = {*declarator}
        if node.type != "declaration":  # a function here, or a parameter that points to one
            through.add("function_declarator")
        for target in _field(node, "declarator"):
            names = [*map(_named, _declared(target, through))]
            outside = any(_spelt(c) == "extern" for c in node.children)
            if outside and node.type == "declaration":
                stay.append(target)
            else:
                defined.update(names)
    return defined, _words(stay)


def _declared(node: Any, through: set[str]) -> Iterator[Any]:
    """The identifier that a declarator is about: sizes, values and parameters are not."""
    if node.type == "identifier":
        yield node
    elif node.type in through:
        inner = _field(node, "declarator")
        for child in inner or [c for c in node.children if c.type in {"identifier", *through}]:
            yield from _declared(child, through)


# ------------------------------------------------------------------------------------------ Java


def _java(nodes: list[Any]) -> tuple[set[Name], set[Name]]:
    named = (
        *("method_declaration", "formal_parameter", "enhanced_for_statement", "resource"),
        *("catch_formal_parameter", "instanceof_expression"),
    )
    defined: set[Name] = set()
    overridden: set[Name] = set()
    stay: list[Any] = []
    for node in nodes:
        if node.type in named:
            said = b"".join(c.text for c in node.children if c.type == "modifiers")
            _add(overridden if b"@Override" in said else defined, _field(node, "name"))
        elif node.type in ("local_variable_declaration", "spread_parameter"):
            for child in node.children:
                if child.type == "variable_declarator":
                    _add(defined, _field(child, "name"))
        elif node.type == "field_declaration":
            for child in _field(node, "declarator"):
                stay.extend(_field(child, "name"))
        elif node.type == "lambda_expression":
            for child in _field(node, "parameters"):
                _add(defined, [*_identifiers(child, "inferred_parameters".__eq__)])
        elif node.type in (*_IMPORTS, "enum_constant"):
            stay.append(node)
        elif node.type.endswith("_declaration"):  # a class, an interface, an enumeration
            stay.extend(_field(node, "name"))
    return defined, overridden | _words(stay)


def _add(defined: set[Name], names: list[Any]) -> None:
    defined.update(_named(name) for name in names)


# -------------------------------------------------------------------------------------- languages
