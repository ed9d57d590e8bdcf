"""HTML as tests look at it: well-formed, with what it names, and its text."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
# What HTML itself closes; everything else must be closed by hand, in order.
_LABELLED = {"input", "select", "textarea"}


@dataclass(frozen=True, slots=True)
class Element:
    tag: str
    attributes: dict[str, str]


@dataclass
class Markup(HTMLParser):
    """`problems` are sentences about what is not as HTML wants it."""

    content: str
    elements: list[Element] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    text: str = ""
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.content)
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self._open]

    def __hash__(self) -> int:
        return id(self)

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        self.problems += [f"<{tag}> has {name} twice" for name in names if names.count(name) > 1]
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        if self._open and self._open[-1] == tag:
            self._open.pop()
        else:
            self.problems.append(f"</{tag}> closes {self._open[-1:]}")

    def handle_data(self, data):
        self.text += data

    def having(self, name: str) -> dict[str, Element]:
        """Elements by the value of an attribute that they have."""
        return {one.attributes[name]: one for one in self.elements if name in one.attributes}

    def tags(self, tag: str) -> list[dict[str, str]]:
        return [one.attributes for one in self.elements if one.tag == tag]

    def mistakes(self) -> list[str]:
        """Also of what elements say about one another."""
        ids = [one.attributes["id"] for one in self.elements if "id" in one.attributes]
        found = [f"the id {one} is there twice" for one in set(ids) if ids.count(one) > 1]
        for one in self.elements:
            for name in ("for", "aria-labelledby", "aria-describedby", "aria-controls"):
                found += [
                    f"{name} names {wanted}, which is not there"
                    for wanted in one.attributes.get(name, "").split()
                    if wanted not in ids
                ]
        return [*self.problems, *found, *self._unlabelled(), *self._inline()]

    def _unlabelled(self) -> list[str]:
        labels = {one.get("for") for one in self.tags("label")}
        return [
            f"<{one.tag} {one.attributes}> has no label"
            for one in self.elements
            if one.tag in _LABELLED
            and one.attributes.get("type") != "checkbox"  # within its label
            and "hidden" not in one.attributes
            and one.attributes.get("id") not in labels
        ]

    def _inline(self) -> list[str]:
        """What the policy of the page forbids."""
        found = [f"<{one.tag}> has a style" for one in self.elements if "style" in one.attributes]
        found += [f"<{tag}> is inline" for tag in ("style",) if self.tags(tag)]
        found += ["a script is inline" for one in self.tags("script") if "src" not in one]
        for one in self.elements:
            found += [f"{name} is inline" for name in one.attributes if name.startswith("on")]
        return found
