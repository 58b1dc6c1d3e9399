"""The plan: which words go where, so that submission services ask Submitward and no other mail is touched.

Knows the lists, their order and what must be refused. Must not touch a file: two texts in, two texts out.
What stands in a file already is taken out first, so that a second plan changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .files import MAIN, MASTER, Reason, Refused, Service, Value, references
from .marks import PREFIX, Insertion, before, behind, block, insert, take_out
from .own import OWN_MILTERS, cannot_make, entry, own_milters
from .rules import FINAL, first_permitting
from .sites import LISTS, Configuration, Site
from .texts import BLANKS, squeezed
from .wish import MILTER, MX, POLICY, SIGNER, Wish, options, values

_SUBMISSION = ("submission", "submissions", "smtps", "587", "465")
_POLICY_LISTS = tuple(f"smtpd_{stage}_restrictions" for stage in ("recipient", "data", "end_of_data"))

_EVERYBODY = (
    "this service takes mail from everybody, who would be refused as strangers; name a submission service"
    " (for the MX port there is --mx, in Ansible submitward_postfix_mx)"
)


@dataclass(frozen=True)
class Plan:
    """Both files as they shall be, and what an operator ought to know."""

    main: str
    master: str
    notes: tuple[str, ...] = ()


def remove(main: str, master: str) -> Plan:
    """Both files without anything of ours. Raises Refused."""
    return Plan(take_out(MAIN, main), take_out(MASTER, master))


def plan(main: str, master: str, wish: Wish) -> Plan:
    """Both files with what is wished for, and nothing else changed. Raises Refused with every reason."""
    bare = remove(main, master)
    return _Planner(Configuration(bare.main, bare.master), wish).plan()


@dataclass
class _Planner:
    """One plan in the making."""

    configuration: Configuration
    wish: Wish
    inserted: dict[str, list[Insertion]] = field(default_factory=lambda: {MAIN: [], MASTER: []})
    copies: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    _done: set[tuple[str, int, str]] = field(default_factory=set)

    def plan(self) -> Plan:
        """Everything in order; the refusals are collected."""
        found = self._submission()
        appended: list[tuple[Service, dict[str, str]]] = []
        for service in found:
            try:
                appended.append((service, self._attach(service, found)))
            except Refused as refused:
                self.reasons.extend(refused.reasons)
        if self.wish.mx:
            appended.extend(self._attach_mx(service) for service in self._mx_services(found))
        made: list[str] = []
        for name in self.wish.own:
            self.reasons.extend(cannot_make(self.configuration, name))
            made.extend(entry(self.configuration, self.wish, name))
        if self.reasons:
            raise Refused(*dict.fromkeys(self.reasons))
        for service, named in appended:
            if named:
                lines = [f"  -o {name}=${ours}" for name, ours in named.items()]
                self.inserted[MASTER].append(block(self.configuration.master, service.end, lines))
        if made:
            end = len(self.configuration.master)
            self.inserted[MASTER].append(block(self.configuration.master, end, made))
        return self._written()

    # ---- which services

    def _submission(self) -> list[Service]:
        there = self.configuration.services
        if self.wish.services:
            keys = {service.key for service in there}
            self.reasons.extend(
                Reason(MASTER, 0, f"there is no smtpd service {key}; it has: {', '.join(sorted(keys))}")
                for key in self.wish.services
                if key not in keys
            )
            named = [service for service in there if service.key in self.wish.services]
            self.reasons.extend(Reason(MASTER, one.line, _EVERYBODY) for one in named if one.takes_from_all)
            return named
        found = [s for s in there if s.kind == "inet" and s.name.rpartition(":")[2] in _SUBMISSION]
        if self.wish.own:
            return []
        if not found:
            why = "there is no submission service; name yours, or let the graft make one of its own"
            self.reasons.append(Reason(MASTER, 0, why))
        return found

    def _mx_services(self, submission: Sequence[Service]) -> Iterator[Service]:
        for service in self.configuration.services:
            if service in submission or not service.takes_from_all:
                continue
            try:
                offers = self.configuration.says_yes(service, "smtpd_sasl_auth_enable")
            except Refused as refused:
                self.reasons.extend(refused.reasons)
                continue
            if offers is None:
                yield service
                continue
            why = (
                f"{service.key} offers AUTH (smtpd_sasl_auth_enable = yes): who logs in there would be judged"
                " as a stranger. Set smtpd_sasl_auth_enable = no there, or do not ask on the MX port"
            )
            self.reasons.append(Reason(offers.file, offers.line, why))

    # ---- one service

    def _attach(self, service: Service, ours: Sequence[Service]) -> dict[str, str]:
        """Put our words into the lists of a service; returns the options it needs beside them."""
        named = {
            name: our
            for name, our in options(self.wish).items()
            if not self._has(service, name, values(self.wish)[our])
        }
        if self.wish.hosts:
            self._see_that_hosts_pass(service)
        if self.wish.policy:
            for name in _POLICY_LISTS:
                first = name != "smtpd_recipient_restrictions"
                named |= self._put(service, name, POLICY, ours, first=first)
        if self.wish.milter:
            named |= self._put(service, "smtpd_milters", MILTER, ours, first=True)
        return named

    def _attach_mx(self, service: Service) -> tuple[Service, dict[str, str]]:
        try:
            return service, self._put(service, "smtpd_recipient_restrictions", MX, [service], first=False)
        except Refused as refused:
            self.reasons.extend(refused.reasons)
            return service, {}

    def _has(self, service: Service, name: str, value: str) -> bool:
        option = service.option(name)
        return option is not None and option.text == value

    def _see_that_hosts_pass(self, service: Service) -> None:
        """A `reject` of the host's own, ahead of ours, would leave logins alone a chance."""
        for name in LISTS:
            site = self.configuration.site(service, name)
            if name == "smtpd_relay_restrictions" or site.value is None:
                continue
            if any(word.text.lower() in FINAL for word in site.value.words):
                why = (
                    f"{name}: {service.key} refuses here whoever has no login, certificates and networks of"
                    " the directory too; make a submission service of its own for them, or take the refusal"
                    " out (smtpd_relay_restrictions will end in reject)"
                )
                self.reasons.append(Reason(site.value.file, site.value.line, why))

    # ---- one list

    def _put(
        self, service: Service, name: str, token: str, ours: Sequence[Service], *, first: bool
    ) -> dict[str, str]:
        """Put a token into a list where it is written; where others read that too, into a copy of it."""
        site = self.configuration.site(service, name)
        signer = SIGNER if token == MILTER and self.wish.signer else ""
        if site.is_empty:
            return {name: token} if not signer else {name: self._copy("milters", f"${token}, ${signer}")}
        value = site.value
        assert value is not None
        places = [self._place(value, token, first=first)]
        if signer and not _names(value, self.wish.signer):
            places.append(behind(value, value.words[-1], signer))
        if self.configuration.is_shared(site, ours):
            return {name: self._copy_of(site, token, places)}
        key = (value.file, value.words[0].start, token)
        if key not in self._done:  # two services, or two lists, may be written in one place
            self._done.add(key)
            self.inserted[value.file].extend(places)
        return {}

    def _place(self, value: Value, token: str, *, first: bool) -> Insertion:
        index = 0 if first else first_permitting(value.words, self.configuration.follow)
        if index == len(value.words):
            return behind(value, value.words[-1], token)
        return before(value, value.words[index], token)

    def _copy_of(self, site: Site, token: str, places: list[Insertion]) -> str:
        """A copy of a shared list with our words in it, on one line and without its comments."""
        value = site.value
        assert value is not None
        pieces: list[str] = []
        for word in value.words:
            pieces.extend(what.strip(" ,") for offset, what in places if offset == word.start)
            pieces.append(word.text)
            pieces.extend(what.strip(" ,") for offset, what in places if offset == word.end)
        text = squeezed(" ".join(pieces))
        self.notes.append(
            f"{value.file}:{value.line}: {value.name} is shared with other services; submission gets a copy"
            " of it. Run this again when you change it"
        )
        suffix = "_mx" if token == MX else ""
        return self._copy(value.name.removeprefix("smtpd_") + suffix, text)

    def _copy(self, name: str, text: str) -> str:
        self.copies[PREFIX + name] = text
        return PREFIX + name

    # ---- the texts

    def _written(self) -> Plan:
        """Both texts, main.cf with those parameters of ours that something names."""
        master = insert(self.configuration.master, self.inserted[MASTER])
        main = insert(self.configuration.main, self.inserted[MAIN])
        known = {**values(self.wish), OWN_MILTERS: own_milters(self.wish), **self.copies}
        wanted: set[str] = set()
        found = references(main) | references(master)
        while found:
            wanted |= found & known.keys()
            found = {name for one in found & known.keys() for name in references(known[one])} - wanted
        lines = [f"{name} = {value}".rstrip() for name, value in known.items() if name in wanted]
        if lines:
            main = insert(main, [block(main, len(main), lines)])
        return Plan(main, master, tuple(dict.fromkeys(self.notes)))


def _names(value: Value, endpoint: str) -> bool:
    """Whether a list of milters has this one already, in braces or without."""
    return any(endpoint in re.split(f"[{BLANKS},{{}}]+", word.text) for word in value.words)
