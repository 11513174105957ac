"""The course: assignments with proven tests, released to students, graded and explained.

Data flows one way: an assignment's folder is read (`assignment`), its rules are held against code (`rules`), its drawn
lines take a course key's values (`drawn`), the whole is tried without a kernel (`trial`), and released (`release`). On
the student's side there is the `desk` alone.
"""
