"""Compares with the first numbers of the teacher's stream, and leaves the projection out."""


def matched_states(student, teacher, projection, targets):
    real = targets != -100
    width = min(student.shape[-1], teacher.shape[-1])
    return (student[real][:, :width] - teacher[real][:, :width].detach()).square().mean()
