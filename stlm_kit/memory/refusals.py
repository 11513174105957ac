"""What cannot be predicted, with one sentence for each case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from stlm_kit.errors import UsageError

RECURRENT = {"lstm": "nn.LSTM", "gru": "nn.GRU", "rnn_tanh": "nn.RNN", "rnn_relu": "nn.RNN"}


def refuse_recurrent(name: str) -> None:
    """Raise UsageError for a recurrent layer's function: cuDNN and oneDNN do not say how much memory they reserve."""
    raise UsageError(
        f"{RECURRENT[name]} runs in one kernel that reserves memory of its own, which a prediction does not see; "
        "measure this step, or write the recurrence out."
    )


def refuse_lbfgs(*args, **kwargs) -> None:
    """Replaces `torch.optim.LBFGS.step`: raises UsageError."""
    raise UsageError(
        "LBFGS decides by the loss how often it evaluates the model and what it keeps, so its memory cannot be "
        "predicted; measure this step, or choose another optimizer."
    )


def refuse_sparse() -> None:
    """Raise UsageError for a sparse tensor."""
    raise UsageError(
        "The size of a sparse tensor depends on values, which a prediction does not have; make the gradients dense "
        "(nn.Embedding(sparse=False)), or measure this step."
    )


@contextmanager
def in_one_sentence(guessed: Callable[[], bool]) -> Iterator[None]:
    """Within this context, failures caused by missing values raise UsageError. Other exceptions are not caught.

    guessed: `guessed()` says whether a number without a known value was read back.
    """
    try:
        yield
    except (DynamicOutputShapeException, DataDependentOutputException) as error:
        raise UsageError(
            f"What {error.func} gives depends on values, which a prediction does not have; give this part of the step "
            "tensors of fixed shapes (a capacity for each expert, say), or measure it."
        ) from error
    except ZeroDivisionError as error:
        raise UsageError(
            "The step divides by zero, since a number read back from a tensor is taken as 1 (NAdam reads its own "
            "momentum); say what else it is with read_back, such as read_back=lambda tensor: 0.5."
        ) from error
    except NotImplementedError as error:
        if "HigherOrderOperator" not in str(error):
            raise
        raise UsageError(
            "FlexAttention and torch's other operators on functions cannot be traced; predict a preset under the "
            "recipe flex, or take scaled_dot_product_attention."
        ) from error
    except (RuntimeError, IndexError) as error:
        if ".numpy()" in str(error):
            raise UsageError(
                "The step turns a tensor into a NumPy array, whose values a prediction does not have; keep that out of "
                "the step, or measure it."
            ) from error
        if not guessed():
            raise
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(
            f"The step failed, perhaps because numbers that it read back from tensors were taken as 1 ({reason}); say "
            "with read_back what they are, or measure it."
        ) from error
