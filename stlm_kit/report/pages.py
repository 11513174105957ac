"""An executed notebook as a page to read in a browser: no kernel, no script, no other host."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path

from stlm_kit.notebook_files import without_widgets
from stlm_kit.paths import atomic_write
from stlm_kit.plots.picture import image_tag

FORMULA = re.compile(r"<(?:code|pre)\b.*?</(?:code|pre)>|(\$\$?)([^$<]+?)\1", re.DOTALL)  # code is no formula
SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL | re.IGNORECASE)  # MathJax, RequireJS, widgets: from elsewhere


def html_page(notebook: Path) -> Path | None:
    """The notebook as a page beside it, made anew when the notebook is newer; None where nbconvert cannot show it."""
    page = notebook.with_suffix(".html")
    if page.is_file() and page.stat().st_mtime >= notebook.stat().st_mtime:
        return page
    try:
        text = _convert(notebook)
    except Exception:  # nbconvert raises what its templates raise; the notebook itself is still there to link to
        return None
    return atomic_write(page, text)


def _convert(notebook: Path) -> str:
    import nbformat
    from jinja2 import pass_context
    from nbconvert import HTMLExporter

    class Exporter(HTMLExporter):
        @pass_context
        def markdown2html(self, context, source):
            return FORMULA.sub(_drawn, super().markdown2html(context, source))

    content = _with_tags(without_widgets(nbformat.read(notebook, as_version=4)))
    text, _ = Exporter().from_notebook_node(content, {"metadata": {"name": notebook.stem}})
    return SCRIPT.sub("", text)


def _with_tags(notebook):
    """The notebook with an HTML image beside each PNG with alternative text: nbconvert's template shows no other."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            about = output.get("metadata", {}).get("image/png", {})
            if about.get("alt") and "image/png" in output.data:
                output.data["text/html"] = image_tag(output.data["image/png"], about)
    return notebook


def _drawn(match: re.Match) -> str:
    """A formula as a picture by matplotlib's own TeX; as typed where that does not know it."""
    if match[1] is None:
        return match[0]
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import math_to_image

    size, formula, buffer = 12, " ".join(html.unescape(match[2]).split()), io.BytesIO()
    try:
        depth = math_to_image(f"${formula}$", buffer, prop=FontProperties(size=size), dpi=72, format="svg")
    except ValueError:
        return match[0]
    height = float(re.search(rb'<svg [^>]*?height="([\d.]+)pt"', buffer.getvalue(), re.DOTALL)[1])
    style = f"height:{height / size:.2f}em;vertical-align:{-depth / size:.2f}em;max-width:100%"
    if match[1] == "$$":
        style += ";display:block;margin:1em auto"
    picture = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(formula)}" style="{style}" src="data:image/svg+xml;base64,{picture}">'
