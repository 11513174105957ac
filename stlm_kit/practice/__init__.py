"""The student's course: chapters with stubs where the committed ones have solutions (`stlm practice`).

A notebook of it calls `begin` first and `standing` last; `begin` brings the cell magic `%%check`.
"""

from stlm_kit.practice.checking import begin, standing

__all__ = ["begin", "standing"]
