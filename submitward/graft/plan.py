"""The plan: which words go where, so that submission services ask Submitward and no other mail is touched.

Knows the lists, their order and what must be refused. Must not touch a file: two texts in, two texts out.
What stands in a file already is taken out first, so that a second plan changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from .files import MAIN, MASTER, Reason, Refused, Service, references
from .lists import Lists
from .marks import block, insert, take_out
from .obstacles import has_tls, logins_elsewhere, notes, obstacles, without_milters
from .own import OWN_MILTERS, cannot_make, entry, own_milters
from .sites import Configuration
from .texts import is_comment, physical_lines
from .wish import Wish, options, values

_SUBMISSION = ("submission", "submissions", "smtps", "587", "465")

_NO_RECORD = (
    "the author milter judges by what policyd has written down of a message, and without policyd all mail"
    " would wait: plug in both, or neither (--no-policy and --no-milter; in Ansible"
    " submitward_postfix_policy: false and submitward_postfix_milter: false)"
)
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
    configuration = Configuration(bare.main, bare.master)
    return _Planner(configuration, wish, Lists(configuration, wish)).plan()


@dataclass
class _Planner:
    """One plan in the making."""

    configuration: Configuration
    wish: Wish
    lists: Lists
    reasons: list[Reason] = field(default_factory=list)

    def plan(self) -> Plan:
        """Everything in order; the refusals are collected."""
        if self.wish.milter and not self.wish.policy:
            self.reasons.append(Reason(MASTER, 0, _NO_RECORD))
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
            self._see_that_milters_are_asked(name)
            made.extend(entry(self.configuration, self.wish, name))
        if self.reasons:
            raise Refused(*dict.fromkeys(self.reasons))
        if self.wish.policy:
            others = [service for service in self.configuration.services if service not in found]
            self.lists.notes.extend(
                n for other in others for n in logins_elsewhere(self.configuration, other)
            )
        for service, named in appended:
            if named:
                lines = [f"  -o {name}=${ours}" for name, ours in named.items()]
                self.lists.inserted[MASTER].append(block(self.configuration.master, service.end, lines))
        if made:
            end = len(self.configuration.master)
            self.lists.inserted[MASTER].append(block(self.configuration.master, end, made))
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
            for name, our in options(self._wish_for(service)).items()
            if not self._has(service, name, values(self.wish)[our])
        }
        self.reasons.extend(obstacles(self.configuration, service, self.wish))
        self.lists.notes.extend(notes(self.configuration, service, self.wish))
        if not has_tls(self.configuration, service):
            named.pop("smtpd_tls_auth_only", None)
        if self.wish.policy:
            named |= self.lists.put_policy(service, ours)
        return named | self.lists.put_milters(service, ours)

    def _wish_for(self, service: Service) -> Wish:
        """While it is observed, who has been let in there is let in as before."""
        if not self.wish.observe:
            return self.wish
        lets_in = self.configuration.says_yes(service, "smtpd_sasl_auth_enable") is not None
        return replace(self.wish, hosts=False, authentication=self.wish.authentication and not lets_in)

    def _see_that_milters_are_asked(self, name: str) -> None:
        """A service that we make has what main.cf says, where no option of ours says otherwise."""
        made = Service(name, "inet", "-", "smtpd", 0, 0, ())
        try:
            self.reasons.extend(without_milters(self.configuration, made, self.wish))
        except Refused as refused:
            self.reasons.extend(refused.reasons)

    def _attach_mx(self, service: Service) -> tuple[Service, dict[str, str]]:
        try:
            return service, self.lists.put_mx(service)
        except Refused as refused:
            self.reasons.extend(refused.reasons)
            return service, {}

    def _has(self, service: Service, name: str, value: str) -> bool:
        option = service.option(name)
        return option is not None and option.text == value

    # ---- the texts

    def _written(self) -> Plan:
        """Both texts, main.cf with those parameters of ours that something names."""
        master = insert(self.configuration.master, self.lists.inserted[MASTER])
        main = insert(self.configuration.main, self.lists.inserted[MAIN])
        known = {**values(self.wish), OWN_MILTERS: own_milters(self.wish), **self.lists.copies}
        wanted: set[str] = set()
        lines = (*physical_lines(main), *physical_lines(master))
        found = references("".join(line for line in lines if not is_comment(line)))
        while found:
            wanted |= found & known.keys()
            found = {name for one in found & known.keys() for name in references(known[one])} - wanted
        ours = [f"{name} = {value}".rstrip(" ") for name, value in known.items() if name in wanted]
        if ours:
            main = insert(main, [block(main, len(main), ours)])
        return Plan(main, master, tuple(dict.fromkeys(self.lists.notes)))
