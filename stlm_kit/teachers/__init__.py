"""Teachers for distillation: models whose next-token distributions a student learns from.

smollm2.py   SmolLM2-135M from its data package, in the kit's own decoder
hub.py       Qwen3-8B, for a GPU
packed.py    matrices stored in 8 or 4 bits
teacher.py   load_teacher: these, any run's folder, and Hugging Face's layout
fit.py       the memory of a teacher and a student, predicted before anything loads
"""

from stlm_kit.teachers.fit import Fit, teacher_and_student
from stlm_kit.teachers.teacher import Teacher, check_same_tokenizer, load_teacher

__all__ = ["Fit", "Teacher", "check_same_tokenizer", "load_teacher", "teacher_and_student"]
