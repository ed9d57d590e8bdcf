"""What replicas share: one connection to Redis, whose absence is a value and not an exception."""

from modelserver_runtime.storage.redis_store import RedisStore, Script, open_store

__all__ = ["RedisStore", "Script", "open_store"]
