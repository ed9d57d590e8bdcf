"""Makes text of others fit to be shown: bounded, on one line, without secrets. Numbers in words."""

import re

# A condition's message may be longer, an Event's note may not: 1 KiB (events.k8s.io/v1).
LONGEST_MESSAGE = 1024
LONGEST_HINT = 1024

# A termination message has at most 4 KiB (kubelet), an answer of the API server may be longer.
_LONGEST_READ = 8192

_CUT = "…"
_REDACTED = "[redacted]"
_SECRETS = (
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
    ),
    re.compile(r"\b(hf_|sk-|ghp_|github_pat_|glpat-|xox[abp]-|AKIA|ASIA)[A-Za-z0-9_-]{8,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?"),
)
_BEHIND_A_NAME = (
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{8,}"),
    re.compile(
        r"(?i)((?:token|password|passwd|secret|api[_-]?key|access[_-]?key|signature"
        r"|credential)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;]{6,}"
    ),
    re.compile(r"(?i)([?&](?:sig|key|auth)=)[^\s\"'&]+"),
    re.compile(r"(://)[^/\s@]{1,256}(?=@)"),
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_BETWEEN_WORDS = re.compile(r" {2,}")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_STEP = 1000


def redacted(text: str) -> str:
    """Without what looks like a token, a password, a key or a signed URL."""
    for pattern in _SECRETS:
        text = pattern.sub(_REDACTED, text)
    for pattern in _BEHIND_A_NAME:
        text = pattern.sub(rf"\g<1>{_REDACTED}", text)
    return text


def clean(text: str) -> str:
    """What somebody else wrote, as one line that may be shown."""
    encodable = text[:_LONGEST_READ].encode(errors="replace").decode()
    return _BETWEEN_WORDS.sub(" ", _CONTROL.sub(" ", redacted(encodable))).strip()


def shortened(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """At most that many bytes of UTF-8, because the API counts bytes in some places."""
    if len(text.encode()) <= longest:
        return text
    room = longest - len(_CUT.encode())
    return text.encode()[:room].decode(errors="ignore").rstrip() + _CUT


def last_part(text: str, longest: int) -> str:
    """The end of a log or traceback, which is where the cause is."""
    encoded = text.encode()
    if len(encoded) <= longest:
        return text
    room = longest - len(_CUT.encode())
    return _CUT + encoded[-room:].decode(errors="ignore").lstrip()


def sentences(*parts: str) -> str:
    """Parts that may be empty and may lack capital letter and full stop, as one text."""
    return " ".join(_ended(_begun(part.strip())) for part in parts if part.strip())


def _begun(part: str) -> str:
    """A name such as spec.model or hf://a/b is written as it is."""
    is_plain_word = part.split(maxsplit=1)[0].rstrip(",:").isalpha()
    return part[0].upper() + part[1:] if is_plain_word else part


def _ended(part: str) -> str:
    return part if part.endswith((".", "!", "?", _CUT)) else f"{part}."


def size_in_words(size_bytes: int) -> str:
    amount, unit = float(size_bytes), 0
    while amount >= _STEP and unit < len(_UNITS) - 1:
        amount, unit = amount / _STEP, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{size_bytes} B"


def counted(number: int, noun: str) -> str:
    """`1 replica`, `2 replicas`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
