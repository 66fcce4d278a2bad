"""The report of a study: sections, each a function and a template, as a page and as Markdown."""
