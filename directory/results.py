"""What an answer to a simple bind means: yes, a known no with its reason, or that nothing is known.

Knows LDAP result codes (RFC 4511, appendix A), the password policy response (draft-behera-ldap-password-
policy, 6.2) and Active Directory's sub-codes. Must not know how the answer came.
"""

from __future__ import annotations

import re

from directory.bindwire import BindResult, Broken, elements
from directory.identity import Reason, Unavailable

SUCCESS, INVALID_CREDENTIALS, UNWILLING = 0, 49, 53

#: Codes that are a verdict on this account. All others say something about the server or about us.
#: inappropriateAuthentication and insufficientAccessRights are none: slapd and 389ds say 49 of an account
#: without a password or without rights.
_VERDICTS: dict[int, Reason] = {
    19: "locked",  # constraintViolation: 389ds, too many retries
    32: "unknown_login",  # noSuchObject
    49: "wrong_password",
    UNWILLING: "disabled",  # 389ds and FreeIPA, inactivated or locked: with words or a policy that say so
}
#: What 53 is a verdict with: slapd says it of everybody ("operation restricted") and 389ds, too ("Minimum SSF
#: not met"), while they are being looked after.
_OF_ACCOUNT = re.compile(
    r"(account|entry|principal|user|login)\b.*(inactiv|lock|expired|disabled)|too many failed logins",
    re.ASCII | re.IGNORECASE,
)
#: error of the password policy response → reason. 3 and above are about changes of passwords.
_POLICY: dict[int, Reason] = {0: "password_expired", 1: "locked", 2: "must_change_password"}
#: Active Directory: ``data`` of the diagnostic message → reason.
_DATA: dict[str, Reason] = {
    "525": "unknown_login",
    "52e": "wrong_password",
    "530": "not_permitted",  # not at this hour
    "531": "not_permitted",  # not from this workstation
    "532": "password_expired",
    "533": "disabled",
    "568": "not_permitted",  # too many context ids
    "701": "expired",
    "773": "must_change_password",
    "775": "locked",
}
_DATA_IN_TEXT = re.compile(r"\bdata ([0-9a-f]{3,4}),", re.ASCII)


def judge(result: BindResult) -> Reason | None:
    """Why the bind was refused, None when it succeeded.

    Raises Unavailable for every code that does not judge this account: a server that is busy or in
    maintenance, has no such mechanism or points elsewhere (referral) has said nothing about the password.
    """
    error = policy_error(result.policy) if result.policy is not None else None
    if result.code == SUCCESS:
        return "must_change_password" if error == 2 else None
    verdict = _VERDICTS.get(result.code)
    if result.code == UNWILLING and error not in _POLICY and not _OF_ACCOUNT.search(result.text):
        verdict = None
    if verdict is None:
        raise Unavailable(f"the server answered result {result.code} to a bind: {result.text[:200]}")
    if error is not None and error in _POLICY and verdict != "disabled":
        return _POLICY[error]  # but 389ds calls an account that was switched off locked, too
    data = _DATA_IN_TEXT.search(result.text)
    if result.code == INVALID_CREDENTIALS and data is not None:
        return _DATA.get(data[1], "wrong_password")
    return verdict


def policy_error(value: bytes) -> int | None:
    """The error in a password policy response, None when it holds none or is none.

    ``SEQUENCE { warning [0] CHOICE OPTIONAL, error [1] ENUMERATED OPTIONAL }``; 389ds writes every length in
    four octets.
    """
    try:
        (tag, content), *rest = elements(value)
        fields = dict(elements(content)) if tag == 0x30 and not rest else {}
    except (Broken, ValueError):
        return None
    error = fields.get(0x81, b"")
    return error[0] if len(error) == 1 else None
