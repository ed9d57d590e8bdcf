"""Answers of others, of which nobody knows beforehand how long they are."""

import aiohttp


async def read_at_most(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """Raises ValueError for more."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most_bytes:
            raise ValueError(f"the answer has more than {most_bytes} bytes")
    return bytes(body)
