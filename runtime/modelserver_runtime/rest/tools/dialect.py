"""How families of models write their calls."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A call is JSON: {"name": ..., `arguments_key`: {...}}.

    `opening` and `closing` are the marks around each call, or around a list of all calls
    (`is_list`). Without an opening mark an answer that begins with such JSON is a call.
    """

    opening: str = ""
    closing: str = ""
    arguments_key: str = "arguments"
    is_list: bool = False
    line_breaks: bool = False


HERMES = Dialect(opening="<tool_call>", closing="</tool_call>", line_breaks=True)
MISTRAL = Dialect(opening="[TOOL_CALLS]", is_list=True)
LLAMA = Dialect(arguments_key="parameters")
GENERIC = Dialect()


def dialect_of(chat_template: str) -> Dialect:
    """The template of a model shows how it was taught to call."""
    if "<tool_call>" in chat_template:
        return HERMES
    if "[TOOL_CALLS]" in chat_template:
        return MISTRAL
    if "<|python_tag|>" in chat_template or '"parameters":' in chat_template:
        return LLAMA
    return GENERIC
