"""Words of ours in the lists of a service: put where a list is written, or into a copy that only we read.

Knows where a word belongs in a list. Must not know which services there are, nor refuse one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .files import MAIN, MASTER, Service, Value
from .marks import PREFIX, Insertion, before, behind
from .rules import first_permitting
from .sites import Configuration, Site
from .texts import BLANKS, squeezed
from .wish import MILTER, MX, POLICY, SIGNER, Wish

RECIPIENT = "smtpd_recipient_restrictions"
#: where policyd is asked; in all but the first of them before everything else
POLICY_LISTS = (RECIPIENT, "smtpd_data_restrictions", "smtpd_end_of_data_restrictions")
Options = dict[str, str]


@dataclass
class Lists:
    """What has been put into the lists so far. Each `put` returns the options that a service needs for it."""

    configuration: Configuration
    wish: Wish
    inserted: dict[str, list[Insertion]] = field(default_factory=lambda: {MAIN: [], MASTER: []})
    copies: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _done: set[tuple[str, int, str]] = field(default_factory=set)

    def put_policy(self, service: Service, ours: Sequence[Service]) -> Options:
        """policyd into the lists of a submission service."""
        named: Options = {}
        for name in POLICY_LISTS:
            named |= self._put_token(service, name, POLICY, ours)
        return named

    def put_mx(self, service: Service) -> Options:
        """policyd into the recipient list of a service that takes mail from everybody."""
        return self._put_token(service, RECIPIENT, MX, [service])

    def put_milters(self, service: Service, ours: Sequence[Service]) -> Options:
        """The author milter before all others, the signer behind them; each only if it is wished for."""
        name = "smtpd_milters"
        site = self.configuration.site(service, name)
        value = site.value
        signer = self.wish.signer and not (value and _names(value, self.wish.signer))
        tokens = [token for token, wanted in ((MILTER, self.wish.milter), (SIGNER, signer)) if wanted]
        if not tokens:
            return {}
        if value is None or not value.words:
            listed = ", ".join(f"${token}" for token in tokens)
            return {name: tokens[0] if len(tokens) == 1 else self._copy("milters", listed)}
        places = [
            before(value, value.words[0], token) if token == MILTER else behind(value, value.words[-1], token)
            for token in tokens
        ]
        return self._put(name, site, tokens[0], places, ours)

    def _put_token(self, service: Service, name: str, token: str, ours: Sequence[Service]) -> Options:
        site = self.configuration.site(service, name)
        if site.value is None or not site.value.words:
            return {name: token}
        return self._put(name, site, token, [self._place(site.value, token, ours)], ours)

    def _place(self, value: Value, token: str, ours: Sequence[Service]) -> Insertion:
        """The place that is right for every list of ours that is written there."""
        index = min(
            first_permitting(value.words, self.configuration.names(service)) if name == RECIPIENT else 0
            for service in ours
            for name in POLICY_LISTS
            if (name == RECIPIENT or token == POLICY)
            and self.configuration.site(service, name).value is value
        )
        if index == len(value.words):
            return behind(value, value.words[-1], token)
        return before(value, value.words[index], token)

    def _put(
        self, name: str, site: Site, token: str, places: list[Insertion], ours: Sequence[Service]
    ) -> Options:
        """Put words into a list where it is written; where others read that too, into a copy of it."""
        value = site.value
        assert value is not None
        if self.configuration.is_shared(site, ours):
            return {name: self._copy_of(value, token, places)}
        key = (value.file, value.words[0].start, token)
        if key not in self._done:  # two services, or two lists, may be written in one place
            self._done.add(key)
            self.inserted[value.file].extend(places)
        return {}

    def _copy_of(self, value: Value, token: str, places: list[Insertion]) -> str:
        """A copy of a shared list with our words in it, on one line and without its comments."""
        pieces: list[str] = []
        for word in value.words:
            pieces.extend(what.strip(" ,") for offset, what in places if offset == word.start)
            pieces.append(word.text)
            pieces.extend(what.strip(" ,") for offset, what in places if offset == word.end)
        self.notes.append(
            f"{value.file}:{value.line}: {value.name} is shared with other services; submission gets a copy"
            " of it. Run this again when you change it"
        )
        suffix = "_mx" if token == MX else ""
        return self._copy(value.name.removeprefix("smtpd_") + suffix, squeezed(" ".join(pieces)))

    def _copy(self, name: str, text: str) -> str:
        self.copies[PREFIX + name] = text
        return PREFIX + name


def _names(value: Value, endpoint: str) -> bool:
    """Whether a list of milters has this one already, in braces or without."""
    return any(endpoint in re.split(f"[{BLANKS},{{}}]+", word.text) for word in value.words)
