"""One request's caller, as routes see it."""

from collections.abc import Sequence

from modelserver_runtime.access.principal import ApiKey, Scope, spoken
from modelserver_runtime.engine.request import Priority
from modelserver_runtime.errors import NotPermitted

ANONYMOUS_ID = "anonymous"
# Without keys there is nobody to tell apart, and everything but administration is open.
_ANONYMOUS_SCOPES = frozenset(Scope) - {Scope.ADMIN}


class Caller:
    """`key` is None where no keys are needed."""

    __slots__ = ("address", "key")

    def __init__(self, key: ApiKey | None = None, address: str = "") -> None:
        self.key = key
        self.address = address

    @property
    def id(self) -> str:
        """For logs, metrics and the ledger; never the key."""
        return self.key.id if self.key else ANONYMOUS_ID

    @property
    def tenant(self) -> str:
        """Who shares turns and stored answers with whom; empty when callers are not told apart."""
        return (self.key.tenant or self.key.id) if self.key else ""

    @property
    def scopes(self) -> frozenset[Scope]:
        return self.key.scopes if self.key else _ANONYMOUS_SCOPES

    @property
    def highest_priority(self) -> Priority:
        return self.key.highest_priority if self.key else Priority.CRITICAL

    def may_use(self, names: Sequence[str], namespace: str = "") -> bool:
        """Whether a model of these names is allowed; only the gateway knows namespaces."""
        return self.key is None or self.key.may_use(names, namespace)

    def require_model(self, names: Sequence[str], namespace: str = "") -> None:
        if self.key is None or self.key.may_use(names, namespace):
            return
        allowed = ", ".join(self.key.models)
        if not self.key.may_enter(namespace):
            allowed = f"models of the namespaces {', '.join(self.key.namespaces)}"
            allowed += "" if namespace else ", at the gateway"
        raise NotPermitted(
            f"The API key {spoken(self.key)} may not use the model {names[0]!r}; it may use "
            f"{allowed}",
            param="model",
        )

    def capped(self, wanted: Priority) -> Priority:
        """What is wanted, as far as the key may."""
        return min(wanted, self.highest_priority)
