"""How routers that know only headers find a cookie."""

import re

from modelserver_operator.apis.traffic import ValueMatch


def cookie_pattern(cookie: ValueMatch) -> str:
    """A regular expression (RE2) for the header `Cookie`, whatever other cookies are in it."""
    wanted = re.escape(f"{cookie.name}={cookie.value}")
    return f"^(?:.*; ?)?{wanted}(?:;.*)?$"
