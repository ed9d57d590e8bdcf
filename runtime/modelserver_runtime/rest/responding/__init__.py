"""OpenAI's Responses: a conversation of items, streamed as named events, kept for the next turn."""
