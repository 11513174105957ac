"""Right everywhere, by the kit's ready-made step in place of the script's own: only the rule takes its marks."""

from stlm_kit.data.batches import Batch
from stlm_kit.training.recipe import Recipe
from stlm_kit.training.step import Step


class Wrapped(nn.Module):
    """A model of logits with the parts that the kit's step asks a decoder for."""

    blocks = ()

    def __init__(self, model):
        super().__init__()
        self.model, self.head = model, nn.Identity()

    def features(self, inputs, documents=None):
        return self.model(inputs)

    def set_attention(self, kind):
        pass


def mend_training_script(model, ids, steps, lr):
    n_train = len(ids) - 40
    step = Step(Wrapped(model), torch.optim.SGD(model.parameters(), lr=lr), Recipe(), clip=0.0)
    losses = []
    for windows in steps:
        used = [(a, n) for a, n in windows if a + n < n_train]
        batches = [Batch(ids[None, a : a + n], ids[None, a + 1 : a + n + 1]) for a, n in used]
        losses.append(float(step(batches)) if batches else 0.0)
    with torch.no_grad():
        validation = F.cross_entropy(model(ids[n_train - 1 : -1]), ids[n_train:]).item()
    return losses, validation
