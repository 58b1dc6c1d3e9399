"""Where a list of a service is written: in its own -o option, in main.cf, or nowhere.

Knows how smtpd finds a value, and which services share one. Must not know what is to be put into a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .files import MASTER, Reason, Refused, Service, Value, parameters, references, services
from .texts import squeezed

LISTS = tuple(
    f"smtpd_{stage}_restrictions"
    for stage in ("client", "helo", "sender", "relay", "recipient", "data", "end_of_data")
)


@dataclass(frozen=True)
class Site:
    """A list of a service. `value` is where it is written, None when nobody wrote it; `chain` names the
    parameters of main.cf on the way there."""

    list: str
    value: Value | None
    chain: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is no word in it."""
        return self.value is None or not self.value.words


class Configuration:
    """main.cf and master.cf as texts, read. Raises Refused for what cannot be read."""

    def __init__(self, main: str, master: str) -> None:
        self.main, self.master = main, master
        self.parameters = parameters(main)
        self.services = [
            service
            for service in services(master)
            if service.is_smtpd and service.kind in ("inet", "pass", "unix")
        ]

    def value(self, service: Service, name: str) -> Value | None:
        """What a service has for a parameter: its option first, as smtpd does."""
        return service.option(name) or self.parameters.get(name)

    def names(self, service: Service) -> ServiceNames:
        """What the words in a list of this service mean."""
        classes = self.value(service, "smtpd_restriction_classes")
        return ServiceNames(
            self, service, frozenset(word.text for word in classes.words) if classes else frozenset()
        )

    def follow(self, name: str) -> Sequence[str] | None:
        """The words of a parameter, None when main.cf has none of that name."""
        value = self.parameters.get(name)
        return [word.text for word in value.words] if value else None

    def site(self, service: Service, name: str) -> Site:
        """Where the list `name` of a service is written. Raises Refused when it cannot be followed."""
        value = self.value(service, name)
        chain = [] if value is None or value.file == MASTER else [name]
        seen = {name}
        while value is not None and value.reference:
            wanted = value.reference
            if wanted in seen:
                raise _lost(value, f"${wanted} leads back to itself, so that the list cannot be followed")
            seen.add(wanted)
            following = self.value(service, wanted)
            if following is None:
                raise _lost(value, f"${wanted} is not defined, so that the list cannot be followed")
            if following.file != MASTER:
                chain.append(wanted)
            value = following
        self._see_classes(service, value)
        return Site(name, value, tuple(chain))

    def _see_classes(self, service: Service, value: Value | None) -> None:
        classes = self.names(service).classes
        for word in value.words if value else ():
            if word.text in classes and self.value(service, word.text) is None:
                raise _lost(value, f"the restriction class {word.text} is not defined: it cannot be followed")

    def says_yes(self, service: Service, name: str) -> Value | None:
        """Where a yes/no parameter of a service says yes, else None. Raises Refused for what is neither."""
        value = self.site(service, name).value
        if value is not None and value.text.lower() not in ("yes", "no"):
            raise _lost(
                value, f"{value.text or 'nothing'} is neither yes nor no; write one of them for {service.key}"
            )
        return value if value is not None and value.text.lower() == "yes" else None

    def is_shared(self, site: Site, ours: Sequence[Service]) -> bool:
        """Whether anybody but `ours` reads the parameter that a list is written in."""
        if site.value is None or site.value.file == MASTER:
            return False
        name = site.value.name
        others = [service for service in self.services if service not in ours]
        if name in (*LISTS, "smtpd_milters") and any(name in self._inherited(other) for other in others):
            return True
        naming = {
            value.name
            for value in self.parameters.values()
            if name in references(value.text) or name in squeezed(value.text.replace(",", " ")).split(" ")
        }
        in_options = any(name in references(option.text) for other in others for option in other.options)
        return bool(naming - set(site.chain)) or in_options or self._chain_is_shared(site, others)

    def _chain_is_shared(self, site: Site, others: Sequence[Service]) -> bool:
        heads = [name for name in site.chain if name in (*LISTS, "smtpd_milters")]
        return any(head in self._inherited(other) for head in heads for other in others)

    @staticmethod
    def _inherited(service: Service) -> set[str]:
        return {name for name in (*LISTS, "smtpd_milters") if service.option(name) is None}


@dataclass(frozen=True)
class ServiceNames:
    """The names in lists of one service, for `rules`."""

    configuration: Configuration
    service: Service
    classes: frozenset[str]

    def follow(self, name: str) -> Sequence[str] | None:
        """The words of a parameter or of a class, None when there is no such thing."""
        value = self.configuration.value(self.service, name)
        return [word.text for word in value.words] if value else None


def _lost(value: Value | None, text: str) -> Refused:
    assert value is not None
    return Refused(Reason(value.file, value.line, f"{value.name}: {text}"))
