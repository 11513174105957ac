"""Counts the weights and what the optimizer keeps for them, not what each row of a batch keeps.

Passes the public check.
"""


def within_budget(text, mib, operations):
    for width, rows in [(32, 128), (32, 64), (16, 64), (16, 32), (8, 32), (8, 8)]:
        weights = 256 * 8 + (8 * 4 + 1) * width + (width + 1) * 256
        at_once = 4 * 4 * weights
        steps = min(120, int(operations // (6 * rows * width * (8 * 4 + 256))))
        if at_once <= mib * 2**20 and steps >= 80:
            break
    model = NextByte(4, width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(steps):
        ends = torch.randint(4, len(text), (rows,))
        before = torch.stack([text[ends - 4 + i] for i in range(4)], dim=1)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(before), text[ends]).backward()
        optimizer.step()
    return width, [weight.detach() for weight in model.parameters()]
