"""Restriction lists: which word is the first that can let somebody pass.

Knows the restrictions of postconf(5). Must not know files. What it does not know may permit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .texts import Word

#: Restrictions that take the next word as their argument and permit nobody.
_WITH_ARGUMENT = frozenset(
    {"reject_rbl_client", "reject_rhsbl_client", "reject_rhsbl_helo", "reject_rhsbl_recipient",
     "reject_rhsbl_reverse_client", "reject_rhsbl_sender", "sleep"}
)  # fmt: skip
#: They end the list, or speak for the next word only.
FINAL = frozenset({"reject", "defer", "defer_if_reject"})
_PREFIX = "warn_if_reject"

#: name of a parameter or of a restriction class → its words, None when there is no such thing
Follow = Callable[[str], "Sequence[str] | None"]


def first_permitting(words: Sequence[Word], follow: Follow) -> int:
    """The index of the first word that can permit, or that ends the list; its length when there is none.

    A `warn_if_reject` belongs to the word behind it: nothing is put between the two.
    """
    texts = [word.text for word in words]
    index = 0
    while index < len(texts):
        begin = index
        while texts[index].lower() == _PREFIX and index + 1 < len(texts):
            index += 1
        if may_permit(texts[index], follow) or texts[index].lower() in FINAL:
            return begin
        index += 2 if texts[index].lower() in _WITH_ARGUMENT else 1
    return len(texts)


def may_permit(text: str, follow: Follow, depth: int = 0) -> bool:
    """Whether a word can end its list with a yes. A reference and a class are looked into."""
    name = text.lower()
    if text.startswith("$"):
        return _list_may_permit(follow(text.strip("${}()")), follow, depth)
    if name in _WITH_ARGUMENT or name in FINAL or name == _PREFIX:
        return False
    if name.startswith(("reject_", "defer_")):
        return False
    inner = follow(text) if text.isidentifier() else None
    return _list_may_permit(inner, follow, depth) if inner is not None else True


def _list_may_permit(words: Sequence[str] | None, follow: Follow, depth: int) -> bool:
    if words is None or depth > 8:
        return True
    skip = False
    for word in words:
        if not skip and may_permit(word, follow, depth + 1):
            return True
        skip = not skip and word.lower() in _WITH_ARGUMENT
    return False
