"""Right in every number, by the kit's own module for it: the rule takes all its marks."""

from stlm_kit.training.hidden_states import HiddenStates


def matched_states(student, teacher, projection, targets):
    matching = HiddenStates([(1, 1)], student.shape[-1], teacher.shape[-1]).to(student.dtype)
    given = {"projections.0.weight": projection}
    distances = torch.func.functional_call(matching, given, ([student], [teacher.detach()]))
    return distances[targets != -100].mean()
