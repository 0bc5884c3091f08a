"""A run's page for people beyond its user: without what a source's files are called or hold."""

from __future__ import annotations

import re

_REFUSED = re.compile("<!-- refused -->.*?<!-- /refused -->", re.DOTALL)
_REVIEW = re.compile("<!-- review -->.*?<!-- /review -->", re.DOTALL)
INSTEAD = '<p class="soft">Which files, and why, is in the page and in report.json of the run.</p>'


def without_files(html: str) -> str:
    """A page of pipeline.report.pages without its tables of refused files: a file's name, and the
    value of an attribute, may name a patient. Counts stay. The way to the review page goes, too:
    it is of the folder that the page was in."""
    return _REVIEW.sub("", _REFUSED.sub(INSTEAD, html))
