"""Addresses: one normal form for each, so that ownership is a comparison of strings.

Knows the form in which Postfix hands an address over (internal: unquoted, RFC 5321 route removed), domains
and their A-labels (RFC 5890), and which spellings of a local part are the same mailbox. Must not know who
owns what.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

import idna

from directory.identity import Address

NULL_SENDER = Address("")
# Octets. RFC 5321 4.5.3.1.1 says 64, but VERP and SRS senders are longer and Postfix sends them.
LOCAL_PART_MAX = 255
DOMAIN_MAX = 253  # characters of the A-label form, RFC 1035 2.3.4


class Malformed(ValueError):
    """A text that is no address; its words may be shown to the sender and hold nothing of the text."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Which spellings are the same mailbox (settings section ``directory.addresses``).

    `fold_local_part`: Alice@ is alice@. `recipient_delimiter`: the characters at which Postfix cuts an
    address extension off (postconf(5)); ``+`` makes alice+x@ the mailbox alice@, ``""`` makes every address
    exact.
    """

    fold_local_part: bool = field(default=True, metadata={"help": "whether Alice@ is alice@"})
    recipient_delimiter: str = field(
        default="",
        metadata={"help": "as Postfix's; with `+` alice+x@ is the mailbox alice@, else it is not hers"},
    )

    def __post_init__(self) -> None:
        if not _DELIMITER.fullmatch(self.recipient_delimiter):
            raise ValueError("recipient_delimiter is a few signs as in Postfix, like + or +-, or nothing")


_DELIMITER = re.compile(r"[!#$&'*+./=?^_~|-]{0,8}")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LITERAL = re.compile(r"\[[!-Z^-~]{1,64}\]")
_PLAIN = re.compile(rf"([ -?A-~]{{1,{LOCAL_PART_MAX}}})@({_LABEL}(?:\.{_LABEL})*)\.?")
_NEVER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSPLIT = frozenset({"mailer-daemon", "postmaster", "double-bounce"})


def parse(text: str, rules: Rules) -> Address:
    """The normal form of `text`, an address in Postfix's internal form; ``""`` is the null sender.

    Domain in lower-case A-labels without a trailing dot, local part in NFC and folded as `rules` say. Percent
    and bang are ordinary characters here. Raises Malformed, and nothing else, for any other text.
    """
    plain = _PLAIN.fullmatch(text)
    if plain is None:
        return _parse_slowly(text, rules)
    local, domain = plain.groups()
    domain = domain.lower()
    if len(domain) > DOMAIN_MAX or "xn--" in domain:
        domain = _domain(domain)
    return Address(f"{local.lower() if rules.fold_local_part else local}@{domain}")


def _parse_slowly(text: str, rules: Rules) -> Address:
    if not text:
        return NULL_SENDER
    if len(text) > 4 * (LOCAL_PART_MAX + DOMAIN_MAX):
        raise Malformed("the address is too long")
    if _NEVER.search(text):
        raise Malformed("the address holds a control character")
    local, at, domain = text.rpartition("@")
    if not at:
        raise Malformed("the address has no domain")
    if "@" in local:
        raise Malformed("the address has more than one @")
    if not local:
        raise Malformed("the address has nothing before its @")
    local = _local_part(local, rules)
    return Address(f"{local}@{domain.lower() if _LITERAL.fullmatch(domain) else parse_domain(domain)}")


def _local_part(text: str, rules: Rules) -> str:
    local = unicodedata.normalize("NFC", text)
    if rules.fold_local_part:
        local = unicodedata.normalize("NFC", local.lower())
    if len(local.encode()) > LOCAL_PART_MAX:
        raise Malformed(f"the part before the @ is longer than {LOCAL_PART_MAX} octets")
    return local


def parse_domain(text: str) -> str:
    """The normal form of a domain: lower-case A-labels, one trailing dot dropped. Raises Malformed.

    Underscores are taken as they are, since such domains send mail. Characters that IDNA would replace (full
    width letters, U+3002 for a dot) are refused rather than mapped: what is judged must be what is sent.
    """
    if not text:
        raise Malformed("the address has no domain")
    return _domain(text.removesuffix("."))


@lru_cache(maxsize=4096)
def _domain(text: str) -> str:
    if len(text) > DOMAIN_MAX:
        raise Malformed(f"the domain is longer than {DOMAIN_MAX} characters")
    if not text.isascii():
        text = _a_labels(text)
    domain = text.lower()
    if len(domain) > DOMAIN_MAX or not _DOMAIN.fullmatch(domain):
        raise Malformed("the domain is not a domain name")
    if any(label.startswith("xn--") and not _is_a_label(label) for label in domain.split(".")):
        raise Malformed("the domain has an xn-- label that stands for no name")
    return domain


def _a_labels(text: str) -> str:
    # Letter by letter, so that a Greek capital sigma does not become a final one.
    labels = unicodedata.normalize("NFC", "".join(c.lower() for c in text)).split(".")
    if any(label.startswith("xn--") for label in labels):
        raise Malformed("the domain mixes xn-- labels with others that are not ASCII")
    try:
        return ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    except ValueError as wrong:  # idna.IDNAError is one, and so is its UnicodeError
        raise Malformed("the domain holds characters that no domain name has (IDNA 2008)") from wrong


def _is_a_label(label: str) -> bool:
    try:
        return idna.alabel(idna.ulabel(label)).decode("ascii") == label
    except ValueError:
        return False


def domain_of(address: Address) -> str:
    """The domain of an address in normal form; ``""`` for the null sender."""
    return address.rpartition("@")[2]


def is_literal(address: Address) -> bool:
    """Whether the domain is an address literal (``alice@[192.0.2.1]``), which nobody can own."""
    return address.endswith("]")


def is_routed(address: Address) -> bool:
    """Whether the local part is in a percent or bang form, which only an exact entry may grant."""
    local = address.rpartition("@")[0]
    return "%" in local or "!" in local


def without_extension(address: Address, rules: Rules) -> Address | None:
    """The address with its extension cut off as Postfix does, None when there is none.

    Postfix's split_addr cuts at the first delimiter, never at the start, and not in its reserved names.
    """
    local, _, domain = address.rpartition("@")
    if not rules.recipient_delimiter or local.lower() in _UNSPLIT:
        return None
    if "-" in rules.recipient_delimiter and (
        local.lower().startswith("owner-") or local.lower().endswith("-request")
    ):
        return None
    end = next((i for i, c in enumerate(local) if c in rules.recipient_delimiter), 0)
    return Address(f"{local[:end]}@{domain}") if end else None
