"""Keys, tables and their lives together: what `dkim new` and `dkim rotate` do, step by step.

Knows the order of writing, which makes each step one that can be done again after it was cut short. Must not
know when a step is due, nor how anything is told.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from milter.probe import NoAnswer, selector_of
from milter.settings import SignSettings
from milter.tables import TableError, parse_tables
from submitward.bookkeeping import NO, UNAVAILABLE, USAGE, Refused
from submitward.dkim import rotation, state
from submitward.dkim.edits import Lines, Texts, lead
from submitward.dkim.keyfile import KeyTrouble, danger, make_directory, make_key, read_public, remove_key
from submitward.dkim.record import NAME_MAX, owner_name
from submitward.dkim.rotation import KeyState, Step
from submitward.dkim.signer import ANYBODY, unicode_form
from submitward.dns.ask import Ask
from submitward.replacing import replace_files

RELOAD_TIMEOUT = 60.0  # seconds
SEEN_WITHIN = 10.0  # seconds from the reload until OpenDKIM signs with what it has read


@dataclass(frozen=True, slots=True)
class Made:
    """A key that waits to be published. `is_new`: made by this very call."""

    key: KeyState
    public: str
    lines: Lines
    is_new: bool


@contextmanager
def opened(sign: SignSettings) -> Iterator[Keyring]:
    """The keyring, for one process at a time. Raises Refused."""
    try:
        _make_directory(sign.keys, sign.user)
        with state.locked(sign.keys):
            yield Keyring(sign, state.read(sign.keys))
    except state.Busy as busy:
        raise Refused(str(busy), UNAVAILABLE) from None
    except state.BadState as bad:
        raise Refused(str(bad), USAGE) from None
    except TableError as wrong:
        raise Refused("\n".join(("the tables must be mended first:", *wrong.mistakes)), NO) from None
    except OSError as wrong:
        raise Refused(f"{wrong}; run as root?", UNAVAILABLE) from None


class Keyring:
    """What is known of all keys, under lock."""

    def __init__(self, sign: SignSettings, lives: state.Lives) -> None:
        if sign.key_table is None or sign.signing_table is None:
            raise Refused("set sign.key_table and sign.signing_table in the settings first", USAGE)
        self.sign = sign
        self.lives = lives
        self._paths = (sign.key_table, sign.signing_table)

    def make(self, domain: str, selector: str, now: float) -> Made:
        """A new key for `domain`, or the one that was made before and is not signing yet."""
        texts = self._texts()
        keys = self.lives.get(domain, [])
        key = next((key for key in keys if key.stage in ("published", "waiting")), None)
        is_new = key is None
        if key is None:
            keys = [*keys, *self._adopted(texts, domain, now)]
            selector = selector or rotation.new_selector(now, self._taken(texts))
            path = self.sign.keys / domain / f"{selector}.private"
            if selector in self._taken(texts):
                raise Refused(f"the selector {selector} was used before, and none is used twice", NO)
            _check_name(owner_name(selector, domain))
            key = KeyState(selector, str(path), "published", now)
        public = self._made(Path(key.path)) if is_new else self.public_of(Path(key.path))
        _, lines = self._lead(texts, domain, key)
        if is_new:
            self.lives[domain] = [*keys, key]
            state.write(self.sign.keys, self.lives)
        return Made(key, public, lines, is_new)

    def _made(self, path: Path) -> str:
        """The public half of the key at `path`, which is made unless a run that was cut short has done so."""
        _make_directory(path.parent, self.sign.user)
        try:
            return make_key(path, self.sign.user).text
        except FileExistsError:
            return self.public_of(path)
        except KeyError:
            raise Refused(_no_user(self.sign.user), USAGE) from None

    def public_of(self, path: Path) -> str:
        """The public half of a key of ours."""
        try:
            return read_public(path).text
        except FileNotFoundError:
            raise Refused(f"{path} is gone: put it back, or remove its life from {state.NAME}", NO) from None
        except KeyTrouble as wrong:
            raise Refused(f"{path} {wrong}: put the key back", NO) from None

    def _adopted(self, texts: Texts, domain: str, now: float) -> list[KeyState]:
        """The key that signs for the domain already, made by other means."""
        tables = texts.tables
        name = tables.key_name(f"{ANYBODY}@{domain}")
        if name is None or tables.keys[name].domain != domain:
            return []
        key = tables.keys[name]
        if any(known.selector == key.selector for known in self.lives.get(domain, [])):
            return []
        return [KeyState(key.selector, key.path, "signing", now)]

    def _taken(self, texts: Texts) -> frozenset[str]:
        """Every selector that is known here, of any domain: a name for each rotation is easier to read."""
        known = {key.selector for keys in self.lives.values() for key in keys}
        return frozenset(known | {key.selector for key in texts.tables.keys.values()})

    def advance(self, domain: str, ask: Ask, now: float, *, dry_run: bool) -> Iterator[tuple[KeyState, Step]]:
        """Each key of the domain that is not retired, and the step that it takes, the oldest first: one that
        gives way in this run is not asked about again."""
        for selector in [key.selector for key in self.lives[domain] if key.stage != "retired"]:
            key = next(key for key in self.lives[domain] if key.selector == selector)
            pending = key.stage in ("published", "waiting")
            public = self.public_of(Path(key.path)) if pending else ""
            step = rotation.take_step(key, domain, public, self.sign.keep, ask, now)
            if key.stage == "retiring" and self._signer(domain) == key.selector:
                step = Step(key, "OpenDKIM still signs with it: reload OpenDKIM", NO)
            if not dry_run and step.after != key:
                self._carry_out(domain, key, step, ask, now)
            yield key, step

    def _carry_out(self, domain: str, key: KeyState, step: Step, ask: Ask, now: float) -> None:
        """Do what a step asks for, and then write it down: after a crash in between it is done again."""
        keys = self.lives[domain]
        if step.effect == "sign":
            self._sign_with(domain, step.after)
            keys = [rotation.give_way(k, domain, ask, now) if k.stage == "signing" else k for k in keys]
        if step.effect == "remove":
            self._remove(key)
        self.lives[domain] = [step.after if k.selector == key.selector else k for k in keys]
        state.write(self.sign.keys, self.lives)

    def _sign_with(self, domain: str, key: KeyState) -> None:
        """Have the signer use the key; where that cannot be seen, everything is as it was."""
        before = self._texts()
        after, _ = self._lead(before, domain, key)
        try:
            why = danger(Path(key.path), self.sign.user)
        except KeyError:
            raise Refused(_no_user(self.sign.user), USAGE) from None
        if why:
            raise Refused(f"OpenDKIM would not use {key.path}: {why}", NO)
        self._write(after)
        try:
            self._reload()
            self._see_signing(domain, key.selector)
        except Refused as refused:
            self._write(before)
            with suppress(Refused):
                self._reload()
            raise Refused(f"{refused}; the tables are as they were, run this again", refused.status) from None

    def _write(self, texts: Texts) -> None:
        # The KeyTable goes first: no line of the SigningTable may lead nowhere, at no moment.
        key_table, signing_table = self._paths
        replace_files({key_table: texts.key_table.encode(), signing_table: texts.signing_table.encode()})

    def _reload(self) -> None:
        if not self.sign.reload:
            return
        command = " ".join(self.sign.reload)
        try:
            done = subprocess.run(
                self.sign.reload, capture_output=True, text=True, timeout=RELOAD_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as wrong:
            raise Refused(f"{command}: {wrong}", UNAVAILABLE) from None
        if done.returncode:
            said = f"{done.stderr}{done.stdout}".strip()
            raise Refused(f"{command} exits {done.returncode}: {said}", UNAVAILABLE)

    def _signer(self, domain: str) -> str | None:
        """The selector that OpenDKIM signs with now; None for no signature, or where nobody can say."""
        try:
            return selector_of(self.sign.socket, f"{ANYBODY}@{domain}") if self.sign.socket else None
        except NoAnswer:
            return None

    def _see_signing(self, domain: str, selector: str) -> None:
        """Have the signer show that it uses the new key, where the settings say how to ask it."""
        until = time.monotonic() + SEEN_WITHIN
        while self.sign.socket is not None and (signs := self._signer(domain)) != selector:
            if time.monotonic() > until:
                text = f"OpenDKIM signs with {signs or 'nothing'} and not with {selector}"
                raise Refused(text, UNAVAILABLE)
            time.sleep(0.2)

    def _remove(self, key: KeyState) -> None:
        if any(other.path == key.path for other in self._texts().tables.keys.values()):
            raise Refused(f"{key.path} still stands in the KeyTable: take it out there first", NO)
        if key.path.startswith("/"):
            remove_key(Path(key.path))

    def _texts(self) -> Texts:
        """Both tables; a file that there is not is empty."""
        texts = []
        for path in self._paths:
            try:
                texts.append(path.read_text("utf-8"))
            except FileNotFoundError:
                texts.append("")
            except UnicodeDecodeError:
                raise Refused(f"{path} is no text in UTF-8", NO) from None
        return Texts(*texts)

    def _lead(self, texts: Texts, domain: str, key: KeyState) -> tuple[Texts, Lines]:
        spellings = tuple(dict.fromkeys((domain, unicode_form(domain))))
        new, lines = lead(texts, f"{ANYBODY}@{domain}", key.selector, key.path, spellings)
        parse_tables(new.key_table, new.signing_table)  # nothing is written that OpenDKIM cannot read
        return new, lines


def _make_directory(path: Path, user: str) -> None:
    try:
        make_directory(path, user)
    except LookupError:
        raise Refused(_no_user(user), USAGE) from None


def _check_name(name: str) -> None:
    if len(name) > NAME_MAX:
        text = f"the key's record would stand at {name}: {len(name)} characters, and the DNS has {NAME_MAX}"
        raise Refused(f"{text}. Choose a shorter --selector, or send From a shorter domain", NO)


def _no_user(user: str) -> str:
    return f"there is no user {user} (sign.user)"
