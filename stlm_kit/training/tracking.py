"""Weights & Biases, for those who use it: one logger, no trace of it elsewhere."""

from __future__ import annotations

from pathlib import Path

from stlm_kit.errors import KitError


class WandbLogger:
    """Sends each metrics row to a W&B run; `WANDB_MODE=offline` keeps everything in `folder`/wandb instead.

    Use as a context: the run is finished, whatever happens. KitError when the package is missing or will not start.
    """

    def __init__(self, project: str, config: dict, folder: Path):
        try:
            import wandb
        except ImportError as error:
            raise KitError("Weights & Biases is not installed; `pip install wandb`, or train without it.") from error
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.run = wandb.init(project=project, config=config, dir=str(folder), name=folder.name, resume="allow")
        except wandb.errors.Error as error:
            raise KitError(
                f"Weights & Biases did not start ({error}); log in with `wandb login`, or set WANDB_MODE=offline."
            ) from error

    def __call__(self, row: dict) -> None:
        flat = {key: value for key, value in row.items() if not isinstance(value, dict)}
        flat |= {f"validation/{key}": value for key, value in row.get("validation", {}).items()}
        self.run.log(flat, step=row["step"])

    def __enter__(self) -> WandbLogger:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.run.finish(exit_code=1 if kind else 0)
