"""Derived CT series: written, and checked before anybody gets them."""
