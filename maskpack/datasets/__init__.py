"""Data sets from where their publishers keep them; nothing here imports torch.

`sources` is the table of what lies where, `download` fetches one file and goes on where it was
stopped, `archives` unpacks it, `fetch` does all of that for a name, `registry` makes small tasks
out of packages that `package_clients` gets, and `progress` is what a person sees meanwhile.
`prepare` makes class folders of what was fetched.
"""

from __future__ import annotations

from maskpack.datasets.fetch import fetch_task
from maskpack.datasets.progress import Downloads, Watch
from maskpack.datasets.sources import BY_HAND, SOURCES

__all__ = ["BY_HAND", "SOURCES", "Downloads", "Watch", "fetch_task"]
