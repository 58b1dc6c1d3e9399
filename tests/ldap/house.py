"""An LdapDirectory for a test: settings for a server, a log that remembers, questions that wait."""

from contextlib import contextmanager
from pathlib import Path

from twisted.internet import reactor

from directory.address import parse
from directory.cache import CacheSettings
from directory.drafts import Reading
from directory.identity import Credentials, Login
from directory.ldap_directory import LdapDirectory
from directory.ldap_settings import LdapSettings, ServerSettings
from directory.ownership import owns
from sidecar.settings import Secret
from tests.ldap.slapd import BASE, SERVICE, SERVICE_PASSWORD


class Lines:
    """A log that keeps (level, event, fields)."""

    def __init__(self):
        self.lines = []

    def __getattr__(self, level):
        return lambda event, **fields: self.lines.append((level, event, fields))

    def events(self):
        return [event for _, event, _ in self.lines]


def settings_for(*urls, authority=None, **values):
    """The section directory.ldap for these servers."""
    given = {
        "servers": tuple(ServerSettings(url) for url in urls),
        "ca_file": Path(authority.ca) if authority else None,
        "bind_dn": SERVICE,
        "password": Secret(SERVICE_PASSWORD),
        "base": BASE,
        "insecure": authority is None,
        "filters": {"delegates": "(mailDelegate={dn})"},
        "attributes": {"terms": ("termsAccepted",), "plan": ("mailPlan",)},
    }
    return LdapSettings(**{**given, **values})


READING = Reading(terms_url="https://example.org/terms")


@contextmanager
def directory(settings, *, reading=READING, times=None, checker=None, owning=True, groups=False):
    """A started LdapDirectory with its `log`."""
    log = Lines()
    check = checker(settings, log) if checker else None
    times = times or CacheSettings()
    asked = {"owning": owning, "groups": groups}
    made = LdapDirectory(settings, reading, times, reactor=reactor, log=log, checker=check, **asked)
    made.log = log
    made.start()
    try:
        yield made
    finally:
        made.stop()


async def look_up(made, question):
    """The answer, whether it comes at once or later."""
    if isinstance(question, str):
        question = Login(question)
    found = made.look_up(question)
    return await found if hasattr(found, "addCallback") else found


async def grants(made, question, text):
    """The words that let the principal use an address, or None."""
    principal = await look_up(made, question)
    return owns(principal, parse(text, READING.rules), READING.rules)


def verify(made, login, password):
    return made.verify(Credentials(login, password))
