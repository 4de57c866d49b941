"""How a page is put together: escaped, self-contained, and closed to everything outside it."""

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

_TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, **context: Any) -> str:
    """A page from one of the templates; whatever isn't Markup is escaped."""
    return _environment().get_template(name).render(**context)


def embed(png: bytes) -> str:
    """The address of an image that is part of the page itself."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def breakable(name: str) -> Markup:
    """A long name that may be broken where its parts join, and not inside of them."""
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
        name: getattr(wording, name) for name in dir(wording) if name.startswith("write_")
    } | {
        "AXES": AXES,
        "AXIS_LABELS": wording.AXIS_LABELS,
        "LABELS": wording.LABELS,
        "MISSING": wording.MISSING,
        "SCRIPT": Markup(script),
        # Only this very script may run, whatever a run's name tries to smuggle in.
        "SCRIPT_DIGEST": f"sha256-{digest}",
    }
    return environment
