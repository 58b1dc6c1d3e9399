"""Which requests are about one attempt to send one message: how its charge is named in the ledger.

Knows what repeats of a request have in common. Must not know what is charged.
"""

from __future__ import annotations

import hashlib
from secrets import token_hex
from typing import Literal

from ledger.charges import ChargeId
from policyd.wire import Request


def charge_id(
    request: Request, mta: str, *, by: Literal["data", "rcpt"] = "data", number: int = 1
) -> ChargeId:
    """What a repeat of `request` has in common with it, the recipient's `number` in its transaction included.
    Nameless requests (not Postfix's) repeat nothing."""
    instance = request.instance
    if not instance and (by == "rcpt" or not request.queue_id):
        instance = f"nameless.{token_hex(8)}"
    if by == "data":
        return ChargeId(mta, instance, request.queue_id)
    recipient = f"{number} {request.recipient}".encode("utf-8", "backslashreplace")
    name = recipient.decode() if len(recipient) <= 255 else hashlib.sha256(recipient).hexdigest()
    return ChargeId(mta, instance, name)
