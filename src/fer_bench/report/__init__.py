"""What people read: terminal tables, PNG figures and self-contained HTML pages.

`wording` writes numbers and names, `plots` has the data of the plots that are drawn as PNG and as
SVG, and `comparison` the sentences of a comparison. `terminal`, `figures`, `pages` and `paper`
show them.
"""
