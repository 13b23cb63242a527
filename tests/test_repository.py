"""What the repository promises about itself."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from remcg.page import REST, SECTIONS

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "workflow" / "remcg"
MODULES = sorted(LIBRARY.rglob("*.py"))
REGISTRIES = ("pypi.org", "pythonhosted.org", "anaconda.org", "index-url")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:root|home|work|Users)/\w")
MPI_STAGES = {"sample": "remcg.sample", "predict": "remcg.sample"}
WITHOUT_STAGE = {"common"}


def tracked_files():
    """Text files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    for name in names:
        path = ROOT / name
        if path == Path(__file__) or not path.is_file():
            continue
        try:
            yield name, path.read_text()
        except UnicodeDecodeError:
            continue


def imports(path):
    """Top-level packages that a module imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def targets():
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_requirement_is_pinned_and_has_a_hash():
    lock = (ROOT / "envs" / "requirements.lock").read_text()
    blocks = re.split(r"\n(?=[a-zA-Z])", "\n" + lock)[1:]
    assert len(blocks) > 50
    for block in blocks:
        assert re.match(r"[\w.-]+==\S+ ", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_the_lock_file_names_no_index_and_no_address():
    lock = (ROOT / "envs" / "requirements.lock").read_text()
    assert "://" not in lock
    assert "index-url" not in lock
    assert "find-links" not in lock


def test_the_lock_file_has_the_build_backend_and_all_direct_requirements():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    lock = (ROOT / "envs" / "requirements.lock").read_text()
    locked = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    assert {re.match(r"[\w.-]+", name)[0] for name in wanted} <= locked


def test_the_conda_environment_takes_its_versions_from_the_lock_file():
    text = (ROOT / "envs" / "remcg.yaml").read_text()
    assert "- -r requirements.lock" in text


def test_the_version_is_the_same_everywhere():
    import remcg

    for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md"):
        assert remcg.__version__ in (ROOT / name).read_text(), name


def test_the_folder_workflow_is_not_a_package():
    assert not (ROOT / "workflow" / "__init__.py").exists()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_the_library_imports_no_snakemake_and_mpi_in_one_place(path):
    found = set(imports(path))
    assert "snakemake" not in found
    if path.relative_to(LIBRARY) != Path("parallel.py"):
        assert "mpi4py" not in found


def undocumented(path):
    """Public functions, classes and methods of a module that have no docstring."""
    tree = ast.parse(path.read_text())
    if not ast.get_docstring(tree):
        yield path.name
    for item in tree.body:
        if isinstance(item, ast.FunctionDef | ast.ClassDef) and not item.name.startswith("_"):
            methods = item.body if isinstance(item, ast.ClassDef) else ()
            for each in (item, *methods):
                if isinstance(each, ast.FunctionDef | ast.ClassDef) and each.name[0] != "_":
                    if not ast.get_docstring(each):
                        yield f"{path.name}: {item.name}, {each.name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_whatever_is_public_says_what_it_is(path):
    assert list(undocumented(path)) == []


@pytest.mark.parametrize(
    "path", sorted((LIBRARY / "engine").glob("*.py")), ids=lambda path: path.name
)
def test_the_engine_imports_numba_and_numpy_only(path):
    assert set(imports(path)) - set(sys.stdlib_module_names) <= {
        "llvmlite",  # the compiler that numba comes with
        "numba",
        "numpy",
        "remcg",
    }


@pytest.mark.parametrize("path", sorted((ROOT / "rules").glob("*.smk")), ids=lambda path: path.stem)
def test_each_rule_file_has_its_rule_and_its_script_or_module(path):
    stage = path.stem
    if stage in WITHOUT_STAGE:
        return
    text = path.read_text()
    first, *others = re.findall(r"^(?:rule|checkpoint) (\w+):", text, re.MULTILINE)
    assert first == stage and all(rule.startswith(f"{stage}_") for rule in others)
    if stage in MPI_STAGES:
        common = (ROOT / "rules" / "common.smk").read_text()
        assert f"python -m {MPI_STAGES[stage]}" in text + common
    else:
        assert f'"../scripts/{stage}.py"' in text
        assert (ROOT / "scripts" / f"{stage}.py").is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "rules").glob("*.smk")), ids=lambda path: path.stem)
def test_each_rule_has_log_benchmark_and_environment(path):
    stage = path.stem
    if stage in WITHOUT_STAGE:
        return
    text = path.read_text()
    assert f'"logs/{{campaign}}/{stage}/' in text
    assert f'"benchmarks/{{campaign}}/{stage}/' in text
    assert '"../envs/remcg.yaml"' in text
    assert "lambda" not in text


REPORTED = [
    block
    for path in sorted((ROOT / "rules").glob("*.smk"))
    for block in re.findall(r"report\(\n(.*?)\n {8,12}\)", path.read_text(), re.S)
]


@pytest.mark.parametrize("block", REPORTED, ids=lambda block: re.search(r"report/(\w+)", block)[1])
def test_the_record_of_the_workflow_has_the_headings_and_titles_of_the_front_page(block):
    caption, category, label = (
        re.search(pattern, block)[1]
        for pattern in (r"report/(\w+)\.rst", r'category="(.+?)"', r'labels=\{"\w+": f?"(.+?)"\}')
    )
    text = (ROOT / f"workflow/report/{caption}.rst").read_text()
    title = " ".join(re.match(r"\*\*(.+?)\.?\*\*", text, re.S)[1].split())
    assert label.split(", {")[0] == title
    places = {name: section for section, names in SECTIONS.items() for name in names}
    others = {"front": "Summary", "basis": "Learning"}
    assert category == places.get(caption, others.get(caption, REST))


def test_the_record_of_the_workflow_shows_all_figures():
    n_figures = sum(map(len, SECTIONS.values()))
    assert len(REPORTED) == n_figures + len(["front", "basis", "backmap_state", "backmap_picture"])


def test_every_rule_file_is_included():
    included = set(re.findall(r'"rules/(\w+)\.smk"', (ROOT / "Snakefile").read_text()))
    assert included == {path.stem for path in (ROOT / "rules").glob("*.smk")}


def test_no_file_names_a_machine_path_or_a_package_registry():
    found = [
        f"{name}: {line.strip()[:80]}"
        for name, text in tracked_files()
        for line in text.splitlines()
        if MACHINE_PATHS.search(line) or any(host in line for host in REGISTRIES)
        if name != "envs/lock.sh"
    ]
    assert found == []


def test_make_commands_of_the_documents_exist():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        named = set(re.findall(r"(?:^|`)make ([a-z]+)", path.read_text(), re.MULTILINE))
        assert named <= targets(), path.name


def test_files_that_the_documents_link_to_exist():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def defined(path):
    """Names of the functions and classes of a module, and Class.method."""
    for item in ast.parse(path.read_text()).body:
        if isinstance(item, ast.FunctionDef | ast.ClassDef):
            yield item.name
        if isinstance(item, ast.ClassDef):
            yield from (f"{item.name}.{m.name}" for m in item.body if hasattr(m, "name"))


def test_functions_that_the_theory_links_to_exist():
    page = ROOT / "docs" / "theory.md"
    links = re.findall(r"\[`([\w.]+)`\]\(([^)]+\.py)\)", page.read_text())
    assert len(links) > 50
    for name, link in links:
        path = page.parent / link
        module, _, function = name.partition(".")
        wanted = function if module == path.stem else name
        assert wanted in set(defined(path)), f"{name}: {link}"


def test_headings_that_the_documents_link_to_exist():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link, anchor in re.findall(r"\]\(([^):]*)#([^)]+)\)", path.read_text()):
            page = path.parent / link if link else path
            headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
            assert anchor in anchors, f"{path.name}: {link}#{anchor}"


def parameters_told(docstring):
    """Names under "Parameters" of a docstring."""
    found = re.search(r"Parameters\n-+\n(.*?)(?:\n\n[A-Z]\w+\n-+|\Z)", docstring, re.DOTALL)
    for line in found[1].splitlines() if found else ():
        if told := re.match(r"([a-z*_]\w*(?:, \*?\w+)*) : ", line):
            yield from (name.strip(" *") for name in told[1].split(","))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_parameters_that_a_docstring_tells_are_those_of_the_function(path):
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.FunctionDef) and not item.name.startswith("_"):
            given = item.args
            names = {arg.arg for arg in [*given.posonlyargs, *given.args, *given.kwonlyargs]}
            names |= {arg.arg for arg in (given.vararg, given.kwarg) if arg}
            told = set(parameters_told(ast.get_docstring(item) or ""))
            assert told <= names, f"{item.name}: {told - names}"


def test_the_workflow_catalog_finds_what_it_looks_for():
    yaml = pytest.importorskip("yaml")
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert (ROOT / "config" / "README.md").exists()
    assert 'include: "../Snakefile"' in (ROOT / "workflow" / "Snakefile").read_text()


def test_continuous_integration_checks_tests_and_runs():
    script = (ROOT / ".ci" / "run").read_text()
    commands = re.findall(r"^make (\w+)", script, re.MULTILINE)
    assert commands == ["check", "test", "campaigns", "slurm", "run"]
    assert "check_results.py" in script
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_runtime_profiles_rerun_what_is_incomplete_and_not_what_has_new_code():
    yaml = pytest.importorskip("yaml")
    for name in ("default", "slurm"):
        profile = yaml.safe_load((ROOT / "profiles" / name / "config.yaml").read_text())
        assert profile["rerun-incomplete"] is True
        assert profile["rerun-triggers"] == ["mtime", "params", "input"]


def test_on_slurm_the_ranks_of_a_sampler_are_tasks_under_srun(tmp_path):
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    (tmp_path / "Snakefile").write_text(
        "rule sample:\n"
        "    output: 'out.txt'\n"
        "    threads: 2\n"
        "    resources: mpi='mpiexec', tasks=2\n"
        "    shell: '{resources.mpi} -n {resources.tasks} true'\n"
    )
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds"]
    told = subprocess.run(
        [*command, "--workflow-profile", "profiles/slurm"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    said = told.stdout + told.stderr
    assert told.returncode == 0, said
    assert "srun --mpi=pmi2 --overlap --kill-on-bad-exit -n 2 true" in said
    assert "mpi=srun --mpi=pmi2 --overlap --kill-on-bad-exit, tasks=2, cpus_per_task=1" in said
    assert "threads: 2" not in said
    assert "executor: slurm" in (ROOT / "profiles" / "slurm" / "config.yaml").read_text()
