"""A figure as a page shows it: a sharp, small PNG with its alternative text.

The text lies in the metadata of the PNG, where nbconvert's classic template and the kit's report read it. JupyterLab
gives a PNG no alternative text, whatever its metadata says; it shows what an HTML output says. So a figure carries an
HTML image as well where JupyterLab runs the kernel. The committed chapters carry the PNG alone: they are half as large,
and pages that strip images out of HTML still show them.
"""

from __future__ import annotations

import base64
import html
import io
import os
import sys
from typing import Any

from matplotlib.figure import Figure

SHOWN_DPI = 100  # pixels of a page per inch of a figure
DPI = 150  # pixels of the PNG per inch: sharp on a screen that has more pixels than a page counts
IN_JUPYTER = "JPY_SESSION_NAME"  # Jupyter's server sets it for each of its kernels; papermill and nbval do not
COLOURS = 256  # a PNG with a palette takes a third of the bytes


class Picture(Figure):
    """A Figure of the kit, saved at `DPI`, with the text for readers who cannot see it (`plots.describe` sets it)."""

    alternative_text: str = ""

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        super().savefig(*args, **{"dpi": DPI, **kwargs})

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, "Figure", 1)


def png(figure: Picture) -> bytes:
    """The figure at `DPI`, without empty margins, in at most `COLOURS` colours, each at most 2 of 255 off."""
    from PIL import Image

    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight", facecolor="white")
    picture = Image.open(drawn).convert("RGB")
    picture = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(packed, "png", optimize=True)
    return packed.getvalue()


def shown_size(drawn: bytes) -> dict[str, int]:
    """{"width", "height"} in pixels of a page at which a PNG of `png` is as large as its figure."""
    width, height = (int.from_bytes(drawn[start : start + 4]) for start in (16, 20))  # the header of every PNG
    return {"width": round(width * SHOWN_DPI / DPI), "height": round(height * SHOWN_DPI / DPI)}


def bundle(figure: Picture) -> tuple[dict[str, str], dict[str, Any]]:
    """({MIME type: data}, {MIME type: metadata}) of a figure: the PNG, and in JupyterLab an HTML image as well."""
    drawn = png(figure)
    size, data = shown_size(drawn), base64.b64encode(drawn).decode()
    if not figure.alternative_text:
        return {"image/png": data}, {"image/png": size}
    described = {"image/png": {**size, "alt": figure.alternative_text}}
    if IN_JUPYTER not in os.environ:
        return {"image/png": data}, described
    return {"image/png": data, "text/html": image_tag(data, described["image/png"])}, described


def image_tag(data: str, about: dict[str, Any]) -> str:
    """An HTML image of a PNG in base64, from its metadata in an output: "alt", and "width" and "height" if they are
    there.
    """
    size = "".join(f' {name}="{about[name]}"' for name in ("width", "height") if name in about)
    style = 'style="max-width: 100%; height: auto"'
    return f'<img alt="{html.escape(about["alt"])}"{size} {style} src="data:image/png;base64,{data}">'


def show_in(shell: Any) -> None:
    """Make an IPython shell display a Picture by `bundle`, whatever its backend registers for a Figure."""
    shell.display_formatter.mimebundle_formatter.for_type(Picture, bundle)
    # A function registered for Figure would replace the bundle's PNG; one that gives nothing keeps it.
    shell.display_formatter.formatters["image/png"].for_type(Picture, lambda _: None)


def show_here() -> None:
    """`show_in` the shell that runs this program, where there is one."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        show_in(shell)
