"""Names, paths and reasons as literal text in Markdown: what people typed is never markup."""

import re

# What CommonMark and GitHub's dialect read as markup wherever it stands. An underscore within a word is text, and so
# are brackets that no link follows: names of encoders and intervals stay readable in the source.
_MARKUP = re.compile(r"[\\`*<&|~$]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])|!(?=\[)|^[#>+=-]|^\d+(?=[.)])")


def in_markdown(text: str) -> str:
    """Return text such that Markdown shows it as it is, in one line; also in the cell of a table."""
    line = " ".join(text.splitlines())
    return _MARKUP.sub(lambda found: _escaped(found[0]), line)


def _escaped(found: str) -> str:
    # A number cannot be escaped, but the word joiner keeps it from beginning a list.
    return f"{found}\u2060" if found.isdigit() else f"\\{found}"
