"""Widgets: a shell of controls around a pure `plot(...) -> Figure` of plots.py (or a table, as HTML).

The notebook also calls the plot once by itself, so that a stored page shows it where no kernel runs.
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets
from IPython.display import HTML, clear_output, display
from matplotlib import pyplot
from matplotlib.figure import Figure

from stlm_kit.errors import KitError, UsageError


def shell(plot: Callable[..., Figure | HTML], **controls: ipywidgets.Widget) -> ipywidgets.VBox:
    """Controls above the figure that `plot` draws from their values; each move of a control redraws it.

    controls: one widget for each argument of `plot` that the reader may change. A mistake (two controls that do not go
    together) is shown as a sentence in place of the figure; the controls stay alive.
    Raises UsageError when a control is no widget.
    """
    for name, control in controls.items():
        if not hasattr(control, "value"):
            raise UsageError(f"The control {name!r} is no widget with a value; use ipywidgets.IntSlider or the like.")
    output = ipywidgets.Output()

    def redraw(_change=None) -> None:
        with output:
            figure = None
            try:
                figure = plot(**{name: control.value for name, control in controls.items()})
                clear_output(wait=True)
                display(figure)
            except KitError as error:
                clear_output(wait=True)
                print(error)
            except Exception as error:  # a widget must not die of one wrong setting
                clear_output(wait=True)
                print(f"This setting cannot be drawn: {error} ({type(error).__name__}).")
            finally:
                if isinstance(figure, Figure):
                    pyplot.close(figure)

    for name, control in controls.items():
        if hasattr(control, "description") and not control.description:
            control.description = name.replace("_", " ")
        if hasattr(control, "continuous_update"):  # redraw when the slider is let go, not at every pixel
            control.continuous_update = False
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*controls.values(), output])
