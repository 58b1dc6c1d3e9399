"""The From grammar: exactly one mailbox, in the forms that ordinary programs write, and nothing else.

Knows RFC 5322 3.4 (narrowed), RFC 2047 words and RFC 6532 letters, and why each other form is refused. Must
not know who owns an address. Stricter than any mail reader on purpose: what two readers can read in two
ways is refused. Python's own parsers choose one reading; they are a partner in the tests, never the judge.

    [phrase] <local@domain>      phrase: atoms (dots allowed), quoted strings, encoded words, UTF-8
    local@domain [(comment)]     comment: one, at the end, without ( ) < > @ \\ or "
"""

from __future__ import annotations

import binascii
import quopri
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

ADDRESS_MAX = 254  # octets; RFC 5321 4.5.3.1.3 without its brackets. OpenDKIM signs none over 256
FIELD_MAX = 998  # octets; RFC 5322 2.1.1 says it of one line, and one mailbox needs no more

#: Why a field is no single mailbox; `milter.replies` has the words for each.
Fault = Literal[
    "too_long",
    "control",
    "not_utf8",
    "blank_line",
    "empty",
    "list",
    "group",
    "route",
    "comment",
    "name",
    "address_in_name",
    "brackets",
    "trailing",
    "no_domain",
    "quoted_local_part",
    "encoded_address",
    "literal",
    "blank_in_address",
    "several_at",
    "characters",
    "long_address",
    "misleading_name",
]


class Unparsable(ValueError):
    """The field is not exactly one mailbox. `fault` says why; nothing of the field is in it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault: Fault = fault


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The one mailbox of a field: `address` as it is written, `name` the phrase before it, not decoded."""

    address: str
    name: str = ""


Token = tuple[str, str]  # kind (blank, quoted, comment, atom, or the special character itself) and text

_TOKEN = re.compile(
    r"""(?P<blank>[ \t]+)
      | (?P<quoted>"(?:[^"\\]|\\[^\n])*+")
      | (?P<comment>\([^()\\<>@"]*+\))
      | (?P<atom>[^][ \t()<>:;@\\,"]+)
      | (?P<special>.)""",
    re.VERBOSE | re.DOTALL,
)
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\u00a0-\U0010ffff-"
_LOCAL = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
_LABEL = r"[A-Za-z0-9_\u00a0-\U0010ffff](?:[A-Za-z0-9_\u00a0-\U0010ffff-]*[A-Za-z0-9_\u00a0-\U0010ffff])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_FOLD = re.compile(r"\n(?=[ \t])")

_COMMENT = frozenset(("comment", "(", ")"))
_IN_PHRASE = frozenset(("blank", "quoted", "atom"))
_IN_ADDRESS: dict[str, Fault] = {
    "quoted": "quoted_local_part",
    '"': "quoted_local_part",
    "[": "literal",
    "blank": "blank_in_address",
    ",": "list",
    ";": "list",
    ":": "group",
    ">": "brackets",
    "<": "brackets",
}
_AFTER: dict[str, Fault] = {
    ",": "list",
    ";": "list",
    ":": "group",
    "comment": "comment",
    "(": "comment",
    "<": "brackets",
    ">": "brackets",
}
_BEFORE: dict[str, Fault] = {
    ",": "list",
    ";": "list",
    ":": "group",
    "@": "address_in_name",
    ">": "brackets",
}


def parse_mailbox(value: bytes, *, strict: bool = False) -> Mailbox:
    """The one mailbox of a field's value, folded as the MTA shows it (LF before a blank). Raises Unparsable.

    `strict` refuses names that mislead as well: another address in the name, or anything else with an @, and
    invisible and direction-changing letters.
    """
    tokens = _tokens(_text(value))
    if not tokens:
        raise Unparsable("empty")
    kinds = [kind for kind, _ in tokens]
    mailbox = _angle(tokens, kinds.index("<")) if "<" in kinds else _bare(tokens)
    if len(mailbox.address.encode()) > ADDRESS_MAX:
        raise Unparsable("long_address")
    if strict and _misleads(_comment(tokens) + mailbox.name, mailbox.address):
        raise Unparsable("misleading_name")
    return mailbox


def _text(value: bytes) -> str:
    if len(value) > FIELD_MAX:
        raise Unparsable("too_long")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise Unparsable("not_utf8") from None
    lines = _FOLD.split(text)
    if any(not line.strip(" \t") for line in lines[1:]):
        raise Unparsable("blank_line")  # to some readers the header ends there
    unfolded = "".join(lines)
    if _CONTROL.search(unfolded):  # a CR too: Postfix shows folds as LF, so a CR here is a bare one
        raise Unparsable("control")
    return unfolded.strip(" \t")


def _tokens(text: str) -> list[Token]:
    found = []
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        found.append((match[0] if kind == "special" else kind, match[0]))
    return found


def _angle(tokens: Sequence[Token], start: int) -> Mailbox:
    _no_comment(tokens[:start])
    for kind, _ in tokens[:start]:
        if kind not in _IN_PHRASE:
            raise Unparsable(_BEFORE.get(kind, "name"))
    if start and tokens[0][1].startswith("."):  # obs-phrase begins with a word
        raise Unparsable("name")
    end = next((i for i, (kind, _) in enumerate(tokens) if kind == ">"), 0)
    if not end:
        raise Unparsable("brackets")
    rest = [kind for kind, _ in tokens[end + 1 :] if kind != "blank"]
    if rest:
        raise Unparsable(_AFTER.get(rest[0], "trailing"))
    inner = tokens[start + 1 : end]
    kinds = [kind for kind, _ in inner]
    if kinds[:1] == ["@"] or (":" in kinds and "[" not in kinds):
        raise Unparsable("route")
    return Mailbox(_address(inner), "".join(text for _, text in tokens[:start]).strip())


def _bare(tokens: Sequence[Token]) -> Mailbox:
    address = list(tokens)
    if address[-1][0] == "comment":
        address.pop()
        if address and address[-1][0] == "blank":
            address.pop()
    return Mailbox(_address(address))


def _address(tokens: Sequence[Token]) -> str:
    """``local@domain`` from exactly three tokens. Raises Unparsable with the first thing in the way."""
    _no_comment(tokens)
    for kind, text in tokens:
        if kind in _IN_ADDRESS:
            raise Unparsable(_IN_ADDRESS[kind])
        if "=?" in text:
            raise Unparsable("encoded_address")
    kinds = [kind for kind, _ in tokens]
    if kinds.count("@") > 1:
        raise Unparsable("several_at")
    if "@" not in kinds or kinds[-1] == "@":
        raise Unparsable("no_domain" if kinds else "empty")
    if kinds != ["atom", "@", "atom"]:
        raise Unparsable("characters")
    local, _, domain = (text for _, text in tokens)
    if not (_LOCAL.fullmatch(local) and _DOMAIN.fullmatch(domain)) or _is_disguised(local + domain):
        raise Unparsable("characters")
    return f"{local}@{domain}"


def _no_comment(tokens: Sequence[Token]) -> None:
    if any(kind in _COMMENT for kind, _ in tokens):
        raise Unparsable("comment")


def _is_disguised(text: str) -> bool:
    """Whether an address holds blanks or invisible letters of Unicode."""
    return not text.isascii() and any(unicodedata.category(letter)[0] in "ZC" for letter in text)


def _comment(tokens: Sequence[Token]) -> str:
    return tokens[-1][1] if tokens[-1][0] == "comment" else ""


_ENCODED = re.compile(r"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?\s]*)\?=")


_AROUND = " \t\"'()<>[],;:"


def _misleads(name: str, address: str) -> bool:
    try:
        shown = _ENCODED.sub(_decoded, name)
    except (LookupError, ValueError):  # no such charset, no base64, no such text
        return True
    if "=?" in shown or any(unicodedata.category(letter) in _UNSEEN for letter in shown):
        return True
    # Readers fold compatible letters: a full-width @ is one. The author's own address misleads nobody.
    words = re.split(rf"[{re.escape(_AROUND)}]+", unicodedata.normalize("NFKC", shown))
    return any("@" in word and word.casefold() != address.casefold() for word in words)


_UNSEEN = frozenset(("Cc", "Cf", "Zl", "Zp", "Co", "Cn"))


def _decoded(word: re.Match[str]) -> str:
    charset, encoding, text = word.groups()
    if encoding in "bB":
        return binascii.a2b_base64(text, strict_mode=True).decode(charset)
    return quopri.decodestring(text.encode("ascii"), header=True).decode(charset)
