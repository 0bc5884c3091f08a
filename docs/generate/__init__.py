"""The site's pages: those that were written, with their links, and those made from the code."""
