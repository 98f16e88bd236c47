"""A summary as a file: one HTML page, markdown, or JSON; and its plots."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

FORMATS = ("html", "md", "json")


def rendered(summary: Mapping[str, Any], format: str) -> str:
    """The text of a report in one of FORMATS; equal summaries are equal texts."""
    if format == "html":
        from maskpack.reports.render.page import html_page

        return html_page(summary)
    if format == "md":
        from maskpack.reports.render.markdown import markdown

        return markdown(summary)
    return json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
