"""The command line: what it answers, how it ends, and that it can be called again."""

import errno
import io
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table
from scripts import ROOT

import kdxai
from kdxai import cli, errors
from kdxai.errors import UserError
from kdxai.settings import changed_settings, flatten
from kdxai.training import config as training


def run(monkeypatch, script, *arguments, needs="optim", **options):
    """`cli.run` in this process, as launch/train.py calls it; the exit code."""
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    try:
        cli.run(script, needs=needs, **options)
    except SystemExit as end:
        return end.code
    return 0


def command(monkeypatch, *arguments):
    """`kdxai ...` in this process; the exit code."""
    monkeypatch.setattr(sys, "argv", ["kdxai", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return end.code
    return 0


def test_every_command_has_a_line(monkeypatch, capsys):
    assert command(monkeypatch, "--help") == 0
    told = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n  {name:10} " in told
    assert {path.stem for path in (ROOT / "launch").glob("*.py")} == set(cli.COMMANDS)
    assert command(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"kdxai {kdxai.__version__}\n"
    assert command(monkeypatch, "trian") == 2
    assert capsys.readouterr().err.startswith("error: there is no command 'trian'; the commands ")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_lists_every_flag_and_is_no_failure(monkeypatch, capsys, name):
    assert command(monkeypatch, name, "--help") == 0
    told = capsys.readouterr().out
    assert "--config " in told and "--workdir " in told
    assert ("--coordinator " in told) == (name == "train")


def test_a_command_is_its_launch_script(monkeypatch, capsys, tmp_path):
    """With kdxai's own config, anywhere."""
    monkeypatch.chdir(tmp_path)
    for config in ("explain.py", "configs/explain.py"):
        flags = ["--config", config, "--workdir=run", "--config.models=one=nowhere"]
        assert command(monkeypatch, "explain", *flags) == 2
        assert "error: there is no directory nowhere; give one that " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_config_of_the_users_own_comes_first(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.config_file("study.py:quick") == f"{ROOT}/configs/study.py:quick"
    for path in ("mine.py", "/nowhere/study.py", "runs/study.py"):
        assert cli.config_file(path) == path
    (tmp_path / "study.py").write_text("")
    assert cli.config_file("study.py:quick") == "study.py:quick"


@pytest.fixture
def ctrl_c():
    """Its usual handler; where the tests run in the background, SIGINT may be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_it_can_be_called_again(monkeypatch, ctrl_c):
    """Nothing of an earlier call is left: values, further flags, handlers."""
    before = ctrl_c
    seen = []

    def script(config, workdir, **more):
        assert signal.getsignal(signal.SIGINT) is not before
        seen.append((config.epochs, config.optim.lr, config.optim.step_at, workdir, more))

    known = ["--config", "teacher.py:quick", "--workdir"]
    changed = ["--config.epochs=7", "--config.optim.lr", "0.5", "--config.optim.step_at=(0.5,)"]
    further = {"processes": (int, "."), "distributed": (bool, ".")}
    arguments = [*known, "one", *changed, "--processes=2"]
    assert run(monkeypatch, script, *arguments, flags=further) == 0
    assert run(monkeypatch, script, *known, "two") == 0
    assert seen == [
        (7, 0.5, (0.5,), "one", {"processes": 2, "distributed": False}),
        (5, 0.1, (0.3, 0.6, 0.8), "two", {}),
    ]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--config is missing; --help lists the flags"),
        (["--config"], "--config is missing; --help lists the flags"),
        (["--config=teacher.py"], "--workdir is missing; --help lists the flags"),
        (["--config=teacher.py", "--workdir="], "--workdir is empty; --help lists the flags"),
        (["--config=teacher.py", "--workdir", ""], "--workdir is empty; --help lists the flags"),
        (["--config=nothing.py"], "there is no config file nothing.py; kdxai's own are audit.py, "),
        (["--config=teacher.py:best"], "teacher.py has the recipes published, fast, quick, "),
        (["--config=teacher.py:best:2"], "teacher.py has the recipes published, fast, quick, "),
        (["--config=study.py:quick", "--workdir=run"], "study.py:quick is no config for train.py:"),
        (["--config=teacher.py", "--workdir=run", "more"], "'more' is not a flag; flags start "),
        (["--config=teacher.py", "--workdir=run", "--lr=1"], "there is no flag --lr; --help "),
        (["--config=teacher.py", "--config.epochs=many"], "flag --config.epochs=many: invalid "),
        (["--config=teacher.py", "--config.augment=1"], "'augment' is a group of settings; set '"),
        (["--config=teacher.py", "--config.optim.step_at[9]=1"], "tuple index out of range"),
        (
            ["--config=explain.py", "--config.roles.small=x"],
            "no flag sets 'roles': say it in",
        ),
        (["--config=teacher.py", "--config.oops=1"], "the config has no 'oops'; the config file "),
    ],
)
def test_a_bad_command_line_is_one_line(monkeypatch, capsys, flags, message):
    assert run(monkeypatch, pytest.fail, *flags) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"error: {message}") and told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(", "SyntaxError: "),
        ("get_config = lambda: nothing", "NameError: name 'nothing' is not defined"),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_"),
        ("x = 1", "KeyError: 'get_config'"),
        ("get_config = lambda: {}", "returns no ConfigDict"),
        ("get_config = lambda: 1 / 0", "ZeroDivisionError: division by zero"),
        ("get_config = lambda: None.x", "AttributeError: 'NoneType' object has no attribute 'x'"),
    ],
)
def test_a_config_file_may_raise_anything(monkeypatch, capsys, tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    assert run(monkeypatch, pytest.fail, "--config", tmp_path / "mine.py", "--workdir=run") == 2
    told = capsys.readouterr().err
    assert message in told and "mine.py" in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("optim.learning_rate", "optim.lr"),
        ("optim.lrate", "optim.lr"),
        ("learning_rate", "optim.lr"),
        ("lr", "optim.lr"),
        ("optim.wd", "optim.weight_decay"),
        ("optim.decay", "optim.weight_decay"),
        ("optim.momentun", "optim.momentum"),
        ("epoch", "epochs"),
        ("batchsize", "batch_size"),
        ("bs", "batch_size"),
        ("distill.temp", "distill.temperature"),
        ("distil.alpha", "distill.alpha"),
        ("model.width", None),
        ("xyzzy", None),
        ("optim.q", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_one_that_was_meant(key, near):
    assert cli.nearest(key, flatten(training.default())) == near


@pytest.mark.parametrize(
    ("flag", "read"),
    {
        "--config.cell=1/5": "--config.share=1/5",  # as older versions called it
        "--config.cell": "--config.share",
        "--config.share=1/5": "--config.share=1/5",
        "--config.objective=dkd": "--config.objective.name=dkd",
        "--config.models.cell=2": "--config.models.cell=2",
        "--workdir=config.cell": "--workdir=config.cell",
    }.items(),
)
def test_settings_are_found_by_other_names(flag, read):
    assert cli.by_name(flag, ["share", "objective.name"]) == read


def test_the_place_decides_where_the_last_part_does_not():
    known = [f"models.{name}.{key}" for name in ("teacher", "student") for key in ("epochs", "lr")]
    assert cli.nearest("models.studnt.epochs", known) == "models.student.epochs"
    assert cli.nearest("models.teacher.epoch", known) == "models.teacher.epochs"
    assert cli.nearest("anything", []) is None


def test_a_whole_config_that_differs_is_a_short_message():
    before = training.default()
    after = ConfigDict({key: {"other": 1} for key in before})
    told = changed_settings(before, after)
    assert len(told) < 400
    assert told.startswith("augment.alternate None -> (none), augment.cutout 0 -> (none), ")
    assert told.endswith(f", and {len(flatten(before)) + len(flatten(after)) - 5} more")
    assert changed_settings(before, before) == ""
    after = training.default()
    after.optim.lr, after.epochs = 0.3, 1
    assert changed_settings(before, after) == "epochs 200 -> 1, optim.lr 0.1 -> 0.3"


def test_no_message_is_too_long(monkeypatch, capsys):
    def script(config, workdir):
        raise UserError("start" + 3000 * "x" + "end")

    assert run(monkeypatch, script, "--config=teacher.py", "--workdir=run") == 2
    told = capsys.readouterr().err
    assert len(told) < 700 and "start" in told and told.endswith("end\n")


class JaxRuntimeError(RuntimeError):
    """As JAX's own, which nobody but JAX can make."""


@pytest.mark.parametrize(
    "error",
    [
        JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 70368744177664 bytes.\n" * 9),
        JaxRuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        JaxRuntimeError("INTERNAL: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((1 << 50,), np.dtype("float32")),
    ],
    ids=["jax", "cuda", "cudnn", "python", "numpy"],
)
def test_out_of_memory_is_one_line(monkeypatch, capsys, error):
    def script(config, workdir):
        raise error

    assert errors.is_out_of_memory(error)
    assert run(monkeypatch, script, "--config=teacher.py", "--workdir=run") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: out of memory (") and told.count("\n") == 1
    assert "; lower batch_size, take smaller " in told


def test_what_is_not_out_of_memory():
    for error in (
        ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device"),  # TensorStore
        RuntimeError("INTERNAL: something else"),
    ):
        assert not errors.is_out_of_memory(error)
        assert cli.message(error) is None
    full = OSError(errno.ENOSPC, "No space left on device")
    assert not errors.is_out_of_memory(full)
    assert "free some space" in cli.message(full)


def test_jax_itself_runs_out_of_memory():
    import jax
    import jax.numpy as jnp

    with pytest.raises(Exception) as raised:
        jax.jit(lambda: jnp.zeros(1 << 44) + 1)().block_until_ready()
    assert errors.is_out_of_memory(raised.value)


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    def script(config, workdir):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, script, "--config=teacher.py", "--workdir=run")


def test_devices_that_are_not_there():
    """A fresh process: JAX looks for its devices once."""
    code = (
        "import sys; from kdxai import cli\n"
        "sys.argv = ['train.py', '--config=teacher.py', '--workdir=run']\n"
        "cli.run(lambda config, workdir: __import__('jax').devices(), needs='optim')"
    )
    environment = os.environ | {"JAX_PLATFORMS": "cuda", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "finds no device for JAX_PLATFORMS=cuda; unset it" in told
    assert "Traceback" not in done.stderr


def test_what_is_not_installed(monkeypatch, capsys):
    def script(config, workdir):
        raise ModuleNotFoundError("No module named 'optax'", name="optax")

    assert run(monkeypatch, script, "--config=teacher.py", "--workdir=run") == 2
    assert capsys.readouterr().err.startswith("error: optax is not installed; pip install 'kdxai[")


def test_control_characters_are_escaped(monkeypatch, capsys):
    def script(config, workdir):
        import warnings

        warnings.warn("\x1b[2Jcleared", stacklevel=1)
        raise UserError(f"no model '\x1b]0;title\x07{workdir}\r\n\x9b'; known: café, ↓")

    assert run(monkeypatch, script, "--config=teacher.py", "--workdir=a\x08b") == 2
    assert capsys.readouterr().err == (
        "warning: \\x1b[2Jcleared\n"
        "error: no model '\\x1b]0;title\\x07a\\x08b\\r\\n\\x9b'; known: café, ↓\n"
    )


def child(code, **environment):
    """A process that calls `cli.run` on a script of a few lines; SIGINT is as in a terminal."""
    program = (
        "import signal, sys; from kdxai import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"def script(config, workdir):\n{code}"
        "sys.argv = ['train.py', '--config=teacher.py', '--workdir=run']\n"
        "cli.run(script, needs='optim')"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def show(config, workdir):
    table = Table("Average drop ↓", "student → teacher")
    table.add_row("0.1 ± 0.2", "é")
    Console().print(table)


@pytest.mark.parametrize("script", [lambda config, workdir: print("a line"), show])
def test_a_closed_pipe_is_quiet(monkeypatch, capsys, script):
    """`kdxai study ... | head`."""
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert run(monkeypatch, script, "--config=teacher.py", "--workdir=run") == 141
        closed.write("as the interpreter does at its end")
    assert capsys.readouterr().err == ""


def test_a_closed_pipe_of_the_scripts_own_is_a_fault(monkeypatch):
    """Such as one to a worker process that died."""

    def script(config, workdir):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run(monkeypatch, script, "--config=teacher.py", "--workdir=run")


def test_an_ascii_output_shows_the_table(monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    assert run(monkeypatch, show, "--config=teacher.py", "--workdir=run") == 0
    assert b"Average drop ?" in shown.buffer.getvalue()
    assert b"0.1 ? 0.2" in shown.buffer.getvalue()


@pytest.mark.parametrize(
    ("code", "ready"),
    [
        # While JAX is imported: its first module says so.
        ("    pass\n", "import"),
        # In a destructor, where an exception would be swallowed, and with programs under way, which
        # JAX 0.10 does not survive at the interpreter's end.
        (
            "    import jax, jax.numpy as jnp\n"
            "    class Slow:\n"
            "        def __del__(self):\n"
            "            print('ready', flush=True)\n"
            "            while True: pass\n"
            "    slow = jax.jit(lambda x: jax.lax.fori_loop(0, 10**6, lambda _, x: x @ x, x))\n"
            "    slow(jnp.eye(64))\n"
            "    Slow()\n",
            "ready",
        ),
    ],
    ids=["importing", "computing"],
)
def test_ctrl_c_is_one_line_from_the_first_second(tmp_path, code, ready):
    importing = {}
    if ready == "import":
        (tmp_path / "absl").mkdir()
        (tmp_path / "absl" / "__init__.py").write_text(
            "print('import', flush=True)\nimport time; time.sleep(100)\n"
        )
        importing = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    process = child(code, **importing)
    assert process.stdout.readline() == f"{ready}\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert (process.returncode, told) == (130, "interrupted; the same command continues\n")


def test_ctrl_c_that_a_script_answers_itself(monkeypatch, capsys):
    """As training does, to save first: the line and the code are the same."""
    left = []
    monkeypatch.setattr(cli, "_leave", lambda: left.append(130))

    def script(config, workdir):
        raise KeyboardInterrupt

    assert run(monkeypatch, script, "--config=teacher.py", "--workdir=run") == 0
    assert left == [130]


def test_launch_scripts_import_nothing_heavy():
    """Before Ctrl-C has its handler."""
    code = (
        "import runpy, sys\n"
        f"for name in {cli.COMMANDS}: runpy.run_path(f'launch/{{name}}.py')\n"
        "assert not {'jax', 'numpy', 'pandas', 'absl', 'ml_collections'} & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


def test_a_full_disk_is_one_line(monkeypatch, capsys, tmp_path):
    """Of the script itself, or where its output goes."""
    monkeypatch.setattr(sys, "argv", ["train.py", "--config=teacher.py", f"--workdir={tmp_path}"])

    def script(config, workdir):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SystemExit) as end:
        cli.run(script, needs="optim")
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: OSError: [Errno 28] No space left on device; free some space")
    assert told.count("\n") == 1


@pytest.mark.parametrize("flag", ["--config.models.one-2.bits=3", "--config.models.one-2.bits 3"])
def test_a_name_with_a_hyphen_is_a_name(tmp_path, flag):
    """As those of a sweep are; ml_collections alone reads a subtraction."""
    text = "from ml_collections import ConfigDict\n\ndef get_config():\n"
    text += "    return ConfigDict({'models': {'one-2': {'bits': 8, 'even': True}}})\n"
    (tmp_path / "mine.py").write_text(text)
    argv = ["x.py", f"--config={tmp_path / 'mine.py'}", *flag.split(), "--workdir=w"]
    config, _ = cli.parse_command([*argv, "--noconfig.models.one-2.even"], "models", cli.FLAGS)
    assert config.models["one-2"].to_dict() == {"bits": 3, "even": False}
