"""Text of others (names, reasons, titles) made harmless for what shows it: a terminal, a log, a spreadsheet.

A name can hold an escape sequence that rewrites the screen, a mark that turns the reading direction, a line break that
forges a line, or a formula. It is escaped where it is shown, never where it is kept: a key must stay what it is.
"""

from __future__ import annotations

import re
import unicodedata

_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
"""How spreadsheets recognise a formula, in full width too."""
_NEEDS_QUOTES = re.compile(r'[",\r\n]')


def for_terminal(text: str, keep: str = "") -> str:
    """The text with every character that shows nothing, or moves what is shown, as Python writes it (`\\x1b`).

    `keep`: such characters that stay, for text of several lines.
    """
    if text.isprintable():
        return text
    return "".join(c if _shows(c) or c in keep else _escaped(c) for c in text)


def _shows(character: str) -> bool:
    """Printable, or a space of any width: `99.2 %` is written with one that does not break."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def in_json(text: str) -> str:
    """JSON whose strings show no such character either; it reads back as the same value. Line breaks between tokens,
    which JSON itself allows, stay."""
    if text.isprintable():
        return text
    return "".join(c if _shows(c) or c in "\n\t" else _json_escaped(c) for c in text)


def _json_escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def no_formula(text: str) -> str:
    """Text that no spreadsheet takes for a formula: one that begins like it gets an apostrophe, which says "text".

    For names and words only: numbers are written as numbers.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def csv_cell(text: str) -> str:
    """A CSV cell that holds text: no formula, and in quotes where it needs them."""
    text = no_formula(text)
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text
