"""The course by real nbgrader: student notebooks without solutions, and submissions that get the score they deserve."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

REPOSITORY = Path(__file__).parents[1]
LESSONS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
LESSON = REPOSITORY / "notebooks" / "03_interpolate.ipynb"  # graded below, without its explorers

RIGHT_MATRIX = """
def tent_matrix(M, R):
    U = torch.zeros(R, M)
    for i in range(R):
        x = min(max((i + 0.5) * M / R - 0.5, 0.0), M - 1.0)
        U[i, int(x)] += 1 - (x - int(x))
        U[i, min(int(x) + 1, M - 1)] += x - int(x)
    return U
"""
WRONG_MATRIX = RIGHT_MATRIX.replace("(i + 0.5) * M / R - 0.5", "i * M / R")
BORROWED_MATRIX = """
def tent_matrix(M, R):
    return steps.interpolation_matrix(M, R, False, torch.float32, torch.device("cpu"))
"""
RIGHT_STEP = """
def my_interpolate(attention, output_size, mode="bilinear", align_corners=False):
    align = {"align_corners": align_corners} if mode == "bilinear" else {}
    return torch.nn.functional.interpolate(attention, (output_size, output_size), mode=mode, **align)
"""
WRONG_STEP = RIGHT_STEP.replace('"align_corners": align_corners', '"align_corners": True')
BORROWED_STEP = """
def my_interpolate(attention, output_size, mode="bilinear", align_corners=False):
    return blendlab.interpolate(attention, output_size, mode, align_corners)
"""
SUBMISSIONS = {  # the two solutions, or none; the points of both, and what the grader is told
    "unsolved": (None, None, (0, 0), "It is not written yet"),
    "right": (RIGHT_MATRIX, RIGHT_STEP, (2, 3), ""),
    "wrong": (WRONG_MATRIX, WRONG_STEP, (0, 0), "align_corners=True"),
    "partly-right": (RIGHT_MATRIX, WRONG_STEP, (2, 0), "align_corners=True"),
    "borrowed": (BORROWED_MATRIX, BORROWED_STEP, (0, 0), "calls blendlab's own code (blendlab.steps.interpolate"),
}


def nbgrader(folder: Path, *arguments: str) -> str:
    programs = Path(sys.executable).parent  # nbgrader calls alembic by its name
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def graded(notebook) -> dict:
    """The cells with nbgrader's metadata by their grade_id."""
    return {cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells if "nbgrader" in cell.metadata}


def excerpt(lesson: Path):
    """The lesson's exercises, and before them those of its imports that they use."""
    notebook = nbformat.read(lesson, 4)
    exercises = list(graded(notebook).values())
    used = {n.id for cell in exercises for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Name)}
    imports = [
        ast.unparse(node)
        for cell in notebook.cells
        if cell.cell_type == "code"
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and used & {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    ]
    first = nbformat.v4.new_code_cell("\n".join(["import blendlab", "from blendlab import steps", *imports]))
    notebook.cells = [first, *exercises]
    return notebook


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A course folder as `make course` makes one: all lessons, and an assignment of one lesson's exercises."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copy(REPOSITORY / "blendlab" / "jupyter" / "nbgrader_config.py", folder)
    for assignment in ("lessons", "exercises"):
        (folder / "source" / assignment).mkdir(parents=True)
    for lesson in LESSONS:
        shutil.copy(lesson, folder / "source" / "lessons")
    nbformat.write(excerpt(LESSON), folder / "source" / "exercises" / "exercises.ipynb")
    for assignment in ("lessons", "exercises"):
        nbgrader(folder, "generate_assignment", assignment)
    return folder


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_student_notebook_has_no_solution(course, lesson):
    source = nbformat.read(lesson, 4)
    release = nbformat.read(course / "release" / "lessons" / lesson.name, 4)
    assert len(release.cells) == len(source.cells)
    for cell in release.cells:
        assert "SOLUTION" not in cell.source and "HIDDEN" not in cell.source
        assert not cell.get("outputs")
    solved, student = graded(source), graded(release)
    assert solved.keys() == student.keys()
    for name, cell in solved.items():
        if cell.metadata.nbgrader.solution:
            assert "### BEGIN SOLUTION" in cell.source and "YOUR CODE HERE" in student[name].source


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_graded_cells_assert_the_verdict_and_vary_their_inputs(lesson):
    for name, cell in graded(nbformat.read(lesson, 4)).items():
        if cell.metadata.nbgrader.grade:
            assert cell.metadata.nbgrader.points > 0 and cell.metadata.nbgrader.locked, name
            assert "assert result.passed, result.diagnosis" in cell.source, name
            hidden = cell.source.partition("### BEGIN HIDDEN TESTS")[2].partition("### END HIDDEN TESTS")[0]
            assert "seed=" in hidden, f"{name} has no hidden test on other inputs"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_an_unsolved_lesson_runs_on(lesson):
    """Run All stops at the first error, but for cells with this tag: graded ones, and those that use an answer."""
    notebook = nbformat.read(lesson, 4)
    answers = {
        node.name
        for cell in graded(notebook).values()
        if cell.metadata.nbgrader.solution
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.FunctionDef)
    }
    for cell in notebook.cells:
        assert all(output.output_type != "error" for output in cell.get("outputs", []))  # the tag hides none here
        if cell.cell_type != "code" or cell.metadata.get("nbgrader", {}).get("solution"):
            continue
        tree = ast.parse(cell.source)
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        if cell.metadata.get("nbgrader", {}).get("grade") or called & answers:
            assert "raises-exception" in cell.metadata.get("tags", []), cell.source


def test_every_submission_gets_the_score_it_deserves(course):
    for student, (matrix, step, _, _) in SUBMISSIONS.items():
        notebook = nbformat.read(course / "release" / "exercises" / "exercises.ipynb", 4)
        for name, text in (("tent_matrix", matrix), ("my_interpolate", step)):
            if text is not None:
                graded(notebook)[name].source = text.strip()
        folder = course / "submitted" / student / "exercises"
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / "exercises.ipynb")
    nbgrader(course, "autograde", "exercises")
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        for student, (_, _, points, told) in SUBMISSIONS.items():
            submission = gradebook.find_submission("exercises", student)
            scores = {grade.name: grade.score for grade in submission.notebooks[0].grades}
            assert (scores["tent_matrix_test"], scores["my_interpolate_test"]) == points, student
            assert (submission.score, submission.max_score) == (sum(points), 5)
            autograded = nbformat.read(course / "autograded" / student / "exercises" / "exercises.ipynb", 4)
            cell = graded(autograded)["my_interpolate_test"]
            assert "seed=seed" in cell.source  # the hidden tests came back
            assert told in "".join(output.get("evalue", "") for output in cell.outputs)


def test_the_points_that_teachers_are_told_are_those_of_the_cells():
    lesson_number = re.compile(r"\d\d").fullmatch
    text = (REPOSITORY / "docs" / "TEACHING.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    told = {row[0]: [int(n) for n in row[2].split("+")] for row in rows if len(row) == 4 and lesson_number(row[0])}
    given = {}
    for lesson in LESSONS:
        cells = graded(nbformat.read(lesson, 4)).values()
        if points := [cell.metadata.nbgrader.points for cell in cells if cell.metadata.nbgrader.grade]:
            given[lesson.name[:2]] = points
    assert told == given
