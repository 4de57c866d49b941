"""Rendering of pages: everything is escaped, and nothing is loaded from elsewhere."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from fer_bench.labels import AXES
from fer_bench.report import wording
from fer_bench.report.comparison import write_smallest
from fer_bench.spelling import visible

_TEMPLATES = Path(__file__).parent / "templates"
# The functions that templates call.
_WRITERS = (
    wording.write_cell,
    wording.write_count,
    wording.write_difference,
    wording.write_duration,
    wording.write_heading,
    wording.write_interval,
    wording.write_methods,
    wording.write_p,
    wording.write_spread,
    wording.write_value,
    write_smallest,
)


def render(name: str, **context: Any) -> str:
    """A page from one of the templates; all but Markup is escaped, control characters always."""
    return visible(_environment().get_template(name).render(**context))


def embed(png: bytes) -> str:
    """The data URL of an image, which makes it a part of the page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def breakable(name: str) -> Markup:
    """A long name that may be wrapped between its parts, but not within them."""
    return Markup(re.sub(r"(?<=[_@+-])", "<wbr>", str(escape(name))))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_TEMPLATES / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.filters["breakable"] = breakable
    environment.globals |= {
        **{function.__name__: function for function in _WRITERS},
        "AXES": AXES,
        "AXIS_LABELS": wording.AXIS_LABELS,
        "LABELS": wording.LABELS,
        "MISSING": wording.MISSING,
        "SCRIPT": Markup(script),
        # Only this script may run, even if escaping failed somewhere.
        "SCRIPT_DIGEST": f"sha256-{digest}",
    }
    return environment
