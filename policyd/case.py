"""One request with its facts, as every restriction sees it.

Knows how a finding is made: its incident, and what becomes of it at END-OF-MESSAGE. Must not know any
restriction.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from directory.identity import Principal
from policyd import replies
from policyd.facts import Away, Facts, Finding, Inquiry, Rules, State
from policyd.inquiry import networks
from policyd.scopes import Scope, scopes_of
from policyd.wire import DeferIfPermit, Reply, Request


@dataclass(frozen=True, slots=True)
class Case:
    """What a restriction judges. `principal` is None also while the directory is away; `scopes` are everybody
    whose limits the message counts for, the principal first."""

    request: Request
    state: State
    facts: Facts
    rules: Rules
    principal: Principal | None
    scopes: tuple[Scope, ...] = ()

    def found(
        self, name: str, action: Reply | DeferIfPermit, reason: str, *detail: tuple[str, object]
    ) -> Finding:
        """A finding of the restriction `name`; `reason` and `detail` are for the log only."""
        if self.state == "END-OF-MESSAGE":
            action = replies.at_end(action)
        return Finding(name, action, reason, self.incident, detail)

    def unavailable(self, name: str, reason: str) -> Finding:
        """The finding that something cannot be known now."""
        return self.found(name, replies.unavailable(self.incident), reason)

    @property
    def incident(self) -> str:
        """Eight signs that a sender can read out, the same for each repeat of a request."""
        r = self.request
        named = "\0".join((self.facts.mta, r.instance, r.queue_id, r.sender, r.recipient, r.sasl_username))
        return hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:8].upper()

    @property
    def lacking(self) -> str:
        """The plan that a scope should have and the settings lack, ``""`` if there is none such."""
        return next((scope.plan or "?" for scope in self.scopes if scope.limits is None), "")


def case_of(request: Request, inquiry: Inquiry, facts: Facts, rules: Rules) -> Case:
    """The case that these make."""
    if facts.principal is None or isinstance(facts.principal, Away):
        return Case(request, inquiry.state, facts, rules, None)
    scopes = facts.scopes
    if scopes is None:
        around = networks(request.client_address)
        scopes = scopes_of(facts.principal, around, rules.basis(facts.grants), facts.now)
    return Case(request, inquiry.state, facts, rules, facts.principal, scopes)
