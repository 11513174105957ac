"""The controls of a widget: each moved by the keyboard or the mouse, as a reader would, and put back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Set

from playwright.sync_api import Locator, Page, expect

from .lab import IDLE, MOVE

PutBack = Callable[[], None]


def move_slider(control: Locator) -> PutBack:
    """One step to the right by the arrow key, or to the left from the right end."""
    handle = control.locator(".noUi-handle").first
    at_the_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
    there, back = ("ArrowLeft", "ArrowRight") if at_the_end else ("ArrowRight", "ArrowLeft")
    handle.press(there)
    return lambda: handle.press(back)


def choose_next(control: Locator) -> PutBack:
    """The next entry of a list, after the last the first."""
    box = control.locator("select")
    chosen, entries = box.evaluate("box => [box.selectedIndex, box.options.length]")
    box.select_option(index=(chosen + 1) % entries)
    return lambda: box.select_option(index=chosen)


def press_another(control: Locator) -> PutBack:
    """The next of several buttons of which one is down."""
    buttons = control.locator("button")
    down = buttons.evaluate_all("all => all.findIndex(button => button.classList.contains('mod-active'))")
    buttons.nth((down + 1) % buttons.count()).click()
    return lambda: buttons.nth(down).click()


def tick(control: Locator) -> PutBack:
    box = control.locator("input")
    box.click()
    return box.click


def type_more(control: Locator) -> PutBack:
    """A word after what stands in a field of text, and Enter."""
    field = control.locator("input, textarea")
    before = field.input_value()
    field.press("End")
    field.press_sequentially(" padding")
    field.press("Enter")

    def put_back() -> None:
        field.fill(before)
        field.press("Enter")

    return put_back


MOVES: dict[str, Callable[[Locator], PutBack]] = {
    "widget-slider": move_slider,
    "widget-dropdown": choose_next,
    "widget-select": choose_next,
    "widget-toggle-buttons": press_another,
    "widget-checkbox": tick,
    "widget-text": type_more,
}


class Widget:
    """One `widgets.shell` in the page: its controls, and the figure or table below them."""

    def __init__(self, page: Page, box: Locator):
        self._page = page
        self._output = box.locator("> .widget-output")
        rows = box.locator("> :not(.widget-output)")
        self.controls = [rows.nth(i) for i in range(rows.count())]

    def name(self, control: Locator) -> str:
        """The words beside a control."""
        lines = (line.strip("\u200b ") for line in control.inner_text().splitlines())
        return next(filter(None, lines), control.get_attribute("class"))

    def picture(self) -> str:
        """A digest of all that the widget shows: the bytes of its images and its text."""
        shown = "area => [area.innerText, ...[...area.querySelectorAll('img')].map(image => image.src)].join('\\n')"
        return hashlib.sha256(self._output.evaluate(shown).encode()).hexdigest()

    def wait_for_picture(self) -> None:
        expect(self._output.locator(".jp-OutputArea-child").first).to_be_visible(timeout=MOVE)
        self._page.wait_for_selector(IDLE, timeout=MOVE)

    def redrawn(self, action: Callable[[], PutBack | None]) -> tuple[str, PutBack | None]:
        """Do something to a control, wait until all that was shown is replaced, return what is shown then."""
        drawn = self._output.locator(".jp-OutputArea-child")
        drawn.evaluate_all("children => children.forEach(child => { child.dataset.old = '' })")
        result = action()
        old = drawn.and_(self._page.locator("[data-old]"))
        expect(old, "A control was moved, and nothing was drawn anew.").to_have_count(0, timeout=MOVE)
        self.wait_for_picture()
        return self.picture(), result

    def move(self, control: Locator) -> tuple[str, PutBack]:
        """Move a control; return what the widget shows then, and what puts the control back."""
        classes = control.get_attribute("class").split()
        kind = next((kind for kind in MOVES if kind in classes), None)
        assert kind, f"No test knows how to move a control of the classes {classes}; add it to MOVES of controls.py."
        return self.redrawn(lambda: MOVES[kind](control))


def move_all(widget: Widget, still: Set[str] = frozenset()) -> None:
    """Move each control from where it stood: another picture, but for the `still` ones. Back: the first again."""
    assert widget.controls, "A widget without a control is a figure."
    widget.wait_for_picture()
    first = widget.picture()
    for control in widget.controls:
        name = widget.name(control)
        moved, put_back = widget.move(control)
        assert (moved == first) == (name in still), f"Moving {name!r} changed {'nothing' if moved == first else 'it'}."
        again, _ = widget.redrawn(put_back)
        assert again == first, f"{name!r} was put back, and the picture is not what it was."
