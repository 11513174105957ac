"""Numbers documents by the boundary tokens seen so far, which gives an end of document to the document after it."""


def pack_documents(documents, length, mark):
    stream = [token for document in documents for token in [*document, mark]]
    n_rows = len(stream) // length
    tokens = torch.tensor(stream[: n_rows * length], dtype=torch.int64).view(n_rows, length)
    owners = (tokens == mark).flatten().cumsum(0).view(n_rows, length)
    positions = (owners[:, :, None] == owners[:, None, :]).tril(-1).sum(-1)
    return tokens, owners - owners[:, :1], positions
