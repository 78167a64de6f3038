"""nbgrader's settings for the course; `make course` copies them into course/, where nbgrader is run."""

c = get_config()  # noqa: F821  (nbgrader provides it)
c.CourseDirectory.course_id = "blendlab"
c.ExecutePreprocessor.timeout = 180  # seconds a cell: a lesson loads models and draws, on whatever machine grades it
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError"}
