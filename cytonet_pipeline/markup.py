"""Names, paths and reasons as literal text in Markdown: what people typed is never markup."""

import re

# What CommonMark and GitHub's dialect read as markup wherever it stands. An underscore within a word is text, and so
# are brackets that no link follows: names of encoders and intervals stay readable in the source.
_ANYWHERE = r"[\\`*<&|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|!(?=\[)"
# And at the beginning of a line: headings, quotes, rules and items of lists, but no numbers with a sign or decimals.
_AT_BEGINNING = r"^[>=]|^#(?=#{0,5}(?:\s|$))|^-(?=[-\s]|$)|^\+(?=\s|$)"
_MARKUP = re.compile(f"{_ANYWHERE}|{_AT_BEGINNING}")
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")


def in_markdown(text: str) -> str:
    """Return text such that Markdown shows it as it is, in one line; also in the cell of a table."""
    line = " ".join(text.splitlines())
    return _NUMBERED.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", line))


def from_markdown(text: str) -> str:
    """Return what `in_markdown` was given, of the text that it returned; line breaks stay spaces."""
    return re.sub(r"\\([^\w\s]|_)", r"\1", text)
