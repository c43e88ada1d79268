"""A page of tables and figures as one HTML file that needs no other."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from training.evaluation.bootstrap import Estimate


@dataclass(frozen=True)
class Table:
    """Rows of text under a head, and a sentence on what they are."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """All that stands on a page, from top to bottom."""

    title: str
    facts: Sequence[tuple[str, str]]
    tables: Sequence[Table]
    warnings: Sequence[str] = ()
    configuration: str = ""

    def html(self, pictures: Mapping[str, bytes]) -> str:
        """The page with PNG figures, by what they show, inside it."""
        environment = Environment(
            loader=PackageLoader("training.evaluation", "."),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        inside = [
            {"title": title, "base64": base64.b64encode(data).decode()}
            for title, data in pictures.items()
        ]
        return environment.get_template("report.html.jinja").render(
            title=self.title,
            facts=self.facts,
            tables=self.tables,
            warnings=self.warnings,
            configuration=self.configuration,
            pictures=inside,
        )


def number(value: float | None, digits: int = 4) -> str:
    """A figure as text; a dash where it is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def with_interval(found: Estimate, digits: int = 4) -> str:
    """A figure and its interval, as `0.6123 [0.5012, 0.7034]`."""
    if found.low is None or found.high is None:
        return number(found.value, digits)
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
