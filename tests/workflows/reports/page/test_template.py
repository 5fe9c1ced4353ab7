"""Text from elsewhere is text on a page: no markup, no turn of direction, no control of what is around it."""

from __future__ import annotations

from gloam.workflows.reports.page.charts import Series, line_chart
from gloam.workflows.reports.page.template import page_environment

NAME = "a<script>\u202egpj\x1b[2J"
SHOWN = "a&lt;script&gt;\\u202egpj\\x1b[2J"


def test_names_are_shown_as_they_are_written() -> None:
    template = page_environment().from_string("<p title='{{ name }}'>{{ name }}</p>{{ 3 }}{{ chart }}")
    ticks = ((0.0, NAME), (1.0, "1"))
    chart = line_chart([Series(NAME, 0, (0, 1), (0, 1))], title=NAME, x_label=NAME, x_ticks=ticks)
    page = template.render(name=NAME, chart=chart)
    assert page.startswith(f"<p title='{SHOWN}'>{SHOWN}</p>3<svg")
    assert page.isprintable()
    assert "<script>" not in page
