"""Restriction lists: which word is the first that can let somebody pass.

Knows the restrictions of postconf(5). Must not know files. What it does not know may permit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .texts import Word

#: Restrictions that take the next word as their argument and permit nobody.
_WITH_ARGUMENT = frozenset(
    {"reject_rbl_client", "reject_rhsbl_client", "reject_rhsbl_helo", "reject_rhsbl_recipient",
     "reject_rhsbl_reverse_client", "reject_rhsbl_sender", "sleep"}
)  # fmt: skip
#: They end the list, or speak for the next word only.
FINAL = frozenset({"reject", "defer", "defer_if_reject"})
_PREFIX = "warn_if_reject"


class Names(Protocol):
    """What names in a list of one service mean."""

    @property
    def classes(self) -> frozenset[str]:
        """The names of its restriction classes."""
        ...

    def follow(self, name: str) -> Sequence[str] | None:
        """The words of a parameter or of a restriction class, None when there is no such thing."""
        ...


def first_permitting(words: Sequence[Word], names: Names) -> int:
    """The index of the first word that can permit, or that ends the list; its length when there is none.

    A `warn_if_reject` belongs to the word behind it: nothing is put between the two.
    """
    texts = [word.text for word in words]
    index = 0
    while index < len(texts):
        begin = index
        while texts[index].lower() == _PREFIX and index + 1 < len(texts):
            index += 1
        if may_permit(texts[index], names) or texts[index].lower() in FINAL:
            return begin
        index += 2 if texts[index].lower() in _WITH_ARGUMENT else 1
    return len(texts)


def may_permit(text: str, names: Names, depth: int = 0) -> bool:
    """Whether a word can end its list with a yes. A reference and a class are looked into."""
    name = text.lower()
    if "$" in text:  # also in the middle of a word, where it is followed to nothing
        return _list_may_permit(names.follow(text.strip("${}()")), names, depth)
    if name in _WITH_ARGUMENT or name in FINAL or name == _PREFIX:
        return False
    if text in names.classes:  # whatever it is called
        return _list_may_permit(names.follow(text), names, depth)
    return not name.startswith(("reject_", "defer_"))


def _list_may_permit(words: Sequence[str] | None, names: Names, depth: int) -> bool:
    if words is None or depth > 8:
        return True
    skip = False
    for word in words:
        if not skip and may_permit(word, names, depth + 1):
            return True
        skip = not skip and word.lower() in _WITH_ARGUMENT
    return False


def refuses_all(words: Sequence[str], names: Names, depth: int = 0) -> bool:
    """Whether a list refuses whoever gets to its end, by itself or in what it refers to."""
    if depth > 8:
        return True
    inner = [names.follow(word.strip("${}()")) for word in words if "$" in word or word in names.classes]
    return any(word.lower() in FINAL for word in words) or any(
        refuses_all(found, names, depth + 1) for found in inner if found is not None
    )
