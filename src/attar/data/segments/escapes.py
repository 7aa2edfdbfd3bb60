"""White space in formats of columns, where a bare one would be taken for the end of a field.

A space is written as the open box U+2423, the box itself, a backslash and other white space as
escapes. A file that does so says it in its first line; in other files characters are themselves.
"""

import re

BOX = "\u2423"
HEADER = rf"# {BOX} is a space, \\ a backslash, \uXXXX another white space"
"""The first line of files with such escapes."""

_ESCAPED = re.compile(rf"{BOX}|\\\\|\\u([0-9a-f]{{4}})")


def escape(text: str) -> str:
    """Text without any white space, and without what `str.splitlines` breaks at."""
    if text.isalnum():
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if character == " ":
        return BOX
    if character == "\\":
        return r"\\"
    if character == BOX or character == "\ufeff" or character.isspace():
        return f"\\u{ord(character):04x}"
    return character


def unescape(text: str) -> str:
    """What was escaped."""
    if BOX not in text and "\\" not in text:
        return text
    return _ESCAPED.sub(_unescaped, text)


def _unescaped(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    return " " if found[0] == BOX else "\\"
