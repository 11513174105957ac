"""Takes rows and documents from the kit's PackedBatches. Right, so only the rule objects.

One document more gives the kit the token after the last row that it needs as a target.
"""

import numpy as np

from stlm_kit.data import PackedBatches, TokenFile


def pack_documents(documents, length, mark):
    pieces = [[*document, mark] for document in documents] + [[mark] * (length + 1)]
    ids = np.array([token for piece in pieces for token in piece])
    offsets = np.cumsum([0, *map(len, pieces)])
    file = TokenFile(ids, offsets, np.zeros(len(pieces)), vocab_size=2**31, end_of_document=mark, content_hash="")
    batches = PackedBatches(file, 1, length, attend_across_documents=False)
    n_rows = int(offsets[-2]) // length
    if n_rows == 0:
        return tuple(torch.zeros(0, length, dtype=torch.int64) for _ in range(3))
    batch = batches._batch(np.arange(n_rows))
    positions = (batch.documents[:, :, None] == batch.documents[:, None, :]).tril(-1).sum(-1)
    return batch.inputs, batch.documents, positions
