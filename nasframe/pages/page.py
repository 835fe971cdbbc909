"""Pages from templates: one file each, that needs no network."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def rendered(folder: str, template: str, view: Mapping[str, Any]) -> str:
    """A page; everything that `view` has is escaped.

    Args:
        folder: The package of `nasframe` that the template lies in; it may include those that lie here.
        template: The file.
        view: What the template shows.
    """
    # whoever writes no page need not wait for its engine
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("nasframe", folder), PackageLoader("nasframe", "pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (Path(__file__).parent / "play.js").read_text(encoding="utf-8")
    # the one script that a browser may run, told by its hash; nothing that a run left can become another
    environment.globals.update(script=Markup(script), script_hash=_hash(script))
    return environment.get_template(template).render(view)


def _hash(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
