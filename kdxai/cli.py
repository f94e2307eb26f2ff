"""The commands, `kdxai train` and its like, and what every launch script does around its one call.

Importing JAX takes a second or more, so nothing here does before Ctrl-C has its handler.
"""

import ast
import contextlib
import difflib
import errno
import multiprocessing
import os
import runpy
import select
import signal
import sys
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import kdxai
from kdxai import errors
from kdxai.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

COMMANDS = ("train", "import", "compress", "study", "explain", "audit")
INTERRUPTED = "interrupted; the same command continues"
FORMER = {"cell": "share"}  # what a setting was called -> its name
UNREAD = 128 + 13  # the exit code that a shell gives for a closed pipe
LONGEST = 600  # characters of a message
FLAGS = {
    "config": (str, "Config file, as study.py or study.py:quick; --config.KEY=VALUE changes it."),
    "workdir": (str, "Directory for everything that is written."),
}


def main() -> None:
    """`kdxai COMMAND ...`: the launch script of that name."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help", "help"):
        print("kdxai COMMAND --config FILE --workdir DIRECTORY; kdxai COMMAND --help says more\n")
        for name in COMMANDS:
            text = (shipped("launch") / f"{name}.py").read_text(encoding="utf-8")
            print(f"  {name:10} {(ast.get_docstring(ast.parse(text)) or '').splitlines()[0]}")
    elif command == "--version":
        print(f"kdxai {kdxai.__version__}")
    elif command in COMMANDS:
        script = str(shipped("launch") / f"{command}.py")
        sys.argv[:2] = [script]
        runpy.run_path(script, run_name="__main__")
    else:
        tell(f"error: there is no command '{command}'; the commands are {', '.join(COMMANDS)}")
        raise SystemExit(2)


def shipped(folder: str) -> Path:
    """`configs` or `launch`: inside the package where it is installed, beside it in a checkout."""
    inside = Path(__file__).parent / folder
    return inside if inside.is_dir() else Path(__file__).parents[1] / folder


def run(
    script: Callable[..., Any],
    *,
    needs: str,
    flags: Mapping[str, tuple[type, str]] | None = None,
) -> None:
    """Parse the command line and call `script(config, workdir)`; any number of times in a process.

    Args:
      needs: a key that tells this script's configs from those of the others.
      flags: types and descriptions of further flags, which are further arguments by name.

    Raises:
      SystemExit: 2 after one line on stderr about what the user can mend; 141 where nobody reads
        what is printed; or as the script does.
    """
    if hasattr(sys.stdout, "reconfigure"):  # where the encoding lacks an arrow
        sys.stdout.reconfigure(errors="replace")
    config: ConfigDict | None = None
    flags = FLAGS | dict(flags or {})
    with _ended_by_ctrl_c(), _warnings_in_one_line():
        try:
            if {"-h", "--help"} & set(sys.argv[1:]):
                _help(flags)
                return
            config, values = parse_command(sys.argv, needs, flags)
            _prepare(config, several=any(values[name] for name in flags.keys() - FLAGS.keys()))
            script(config, **values)
            sys.stdout.flush()
        except KeyboardInterrupt:  # from a handler that had to finish something
            _leave()
        except BrokenPipeError:
            if _nobody_reads():
                raise SystemExit(UNREAD) from None
            raise  # a pipe of the script's own
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # Rich has found it first
                raise SystemExit(UNREAD) from None
            raise
        except Exception as error:
            problem = message(error, config)
            if problem is None:
                raise
            tell(f"error: {problem}")
            try:
                sys.stdout.flush()
            except OSError:  # a full disk, and Python would try once more as it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(2) from None


def _help(flags: Mapping[str, tuple[type, str]]) -> None:
    print(f"{(sys.modules['__main__'].__doc__ or '').strip()}\n")
    for name, (_, about) in flags.items():
        print(f"  --{name:12} {about}")


def message(error: Exception, config: "ConfigDict | None" = None) -> str | None:
    """What the user can do about an exception, in one line; None for a fault of the program."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("kdxai"):
        return f"{error.name} is not installed; pip install 'kdxai[study]' brings what studies need"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{errors.one_line(error)}; free some space, then give the same command again"
    if errors.is_out_of_memory(error):
        training = any(key.endswith("batch_size") for key in _flatten(config or {}))
        return (
            f"out of memory ({errors.one_line(error)}); {'lower batch_size, ' if training else ''}"
            "take smaller models or images, or a device with more memory that is free"
        )
    return None


def tell(text: str) -> None:
    """One line on stderr, of bearable length, that no terminal takes for commands."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    with contextlib.suppress(OSError):  # nobody reads
        print(errors.printable(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C end the process at once, with one line and code 130.

    That loses as little as `kill -9`: what is kept is written whole or not at all. An exception
    could be swallowed by a destructor or a callback, is 40 lines where it meets an import, and JAX
    0.10 crashes where the interpreter ends while programs are under way. Who must finish something
    first has a handler of their own.
    """
    try:
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.SIG_IGN:  # as in the background of a shell script
            signal.signal(signal.SIGINT, lambda *_: _leave())
    except ValueError:  # not in the main thread, where no signal comes
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


def _leave() -> NoReturn:
    """End this process, and the workers that it started, without another word."""
    with contextlib.suppress(Exception):
        for worker in multiprocessing.active_children():
            worker.kill()
    if os.isatty(2):
        os.write(2, b"\r\x1b[2K\x1b[?25h")  # a progress bar hides the cursor
    with contextlib.suppress(OSError):
        os.write(2, f"{INTERRUPTED}\n".encode())
    os._exit(130)


def _nobody_reads() -> bool:
    """Whether stdout or stderr is a closed pipe; nothing is written to it from here on."""
    closed = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # no file
            poll = select.poll()
            poll.register(stream, 0)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
                closed = True
    return closed


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    before = warnings.showwarning
    warnings.showwarning = lambda text, *_, **__: tell(f"warning: {text}")
    try:
        yield
    finally:
        warnings.showwarning = before


def _prepare(config: "ConfigDict", *, several: bool) -> None:
    """What JAX, and those that write logs, are told before the script begins.

    Args:
      several: this is one process of several, which JAX must know before it finds its devices.
    """
    import logging as standard_logging

    import jax
    from absl import flags, logging

    from kdxai import devices
    from kdxai.data import datasets

    if not flags.FLAGS.is_parsed():  # absl would warn of it at the first line
        flags.FLAGS.mark_as_parsed()
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every file
    # Its tasks that met a damaged file report it once more when they are collected.
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)
    if not jax.config.values["jax_compilation_cache_dir"]:
        # Compiling is minutes on a small machine, and the same for every run of a config.
        jax.config.update("jax_compilation_cache_dir", str(datasets.cache_root() / "compiled"))
    if not several:
        values = _flatten(config)
        with contextlib.suppress(RuntimeError):  # an earlier call has found the devices
            devices.use_cores(values[key] for key in values if key.endswith("batch_size"))
        if platforms := os.environ.get("JAX_PLATFORMS"):
            try:
                jax.devices()
            except Exception as error:  # of several types, one of them a bare AssertionError
                raise UserError(
                    f"JAX finds no device for JAX_PLATFORMS={platforms}; unset it, or install what "
                    "JAX needs for such devices"
                ) from error


def parse_command(
    argv: list[str], needs: str, known: Mapping[str, tuple[type, str]]
) -> tuple["ConfigDict", dict[str, Any]]:
    """The config that a command line asks for, and the values of the other flags.

    Raises:
      UserError: a flag, config file or config key that is missing, unknown or malformed.
    """
    from absl import flags
    from ml_collections import config_flags

    path, argv = _take_config(argv)
    if not path:
        raise UserError("--config is missing; --help lists the flags")
    config = load_config(config_file(path))
    argv = [by_name(argument, list(_flatten(config))) for argument in argv]
    require_keys(argv, list(_flatten(config)), [key for key in config if is_open(config[key])])

    values = flags.FlagValues()
    define: dict[type, Callable[..., Any]] = {
        str: flags.DEFINE_string,
        int: flags.DEFINE_integer,
        bool: flags.DEFINE_bool,
    }
    for name, (kind, about) in known.items():
        if name != "config":
            define[kind](name, False if kind is bool else None, about, flag_values=values)
    try:
        argv = [spelled(argument) for argument in argv]
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
        rest = values(argv)
    except flags.UnrecognizedFlagError as error:  # absl's nearest names are like in no part
        raise UserError(f"there is no flag --{error.flagname}; --help lists the flags") from error
    except Exception as error:  # as its type of value does
        raise UserError(" ".join(str(error).split())) from error
    if len(rest) > 1:
        raise UserError(f"'{rest[1]}' is not a flag; flags start with --")
    if not values.workdir:
        state = "missing" if values.workdir is None else "empty"
        raise UserError(f"--workdir is {state}; --help lists the flags")
    if needs not in config:
        script = os.path.basename(argv[0])
        raise UserError(f"{path} is no config for {script}: it has no '{needs}'")
    return values.config, {name: values[name].value for name in known if name != "config"}


def _take_config(argv: list[str]) -> tuple[str, list[str]]:
    """The value of --config in a command line, and the rest of it."""
    path, rest = "", argv[:1]
    arguments = iter(argv[1:])
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            path = value if equals else next(arguments, "")
        else:
            rest.append(argument)
    return path, rest


def config_file(path: str) -> str:
    """`study.py:quick` or `configs/study.py:quick` anywhere: kdxai's own where there is no file."""
    file, colon, recipe = path.partition(":")
    own = shipped("configs") / Path(file).name
    mine = str(Path(file).parent) in (".", "configs") and own.is_file()
    return path if Path(file).exists() or not mine else f"{own}{colon}{recipe}"


def load_config(path: str) -> "ConfigDict":
    """What `get_config`, or `get_config(recipe)` for `FILE:recipe`, returns.

    Raises:
      UserError: there is no such file, or what it holds is no config.
    """
    from ml_collections import ConfigDict

    file, *recipe = path.split(":", 1)
    if not Path(file).is_file():
        own = ", ".join(sorted(other.name for other in shipped("configs").glob("*.py")))
        raise UserError(f"there is no config file {file}; kdxai's own are {own}")
    try:
        config = runpy.run_path(file)["get_config"](*recipe)
    except UserError:
        raise
    except Exception as error:  # a config file may raise anything
        raise UserError(f"{file} cannot be read: {errors.one_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"get_config in {file} returns no ConfigDict")
    return config


def is_open(value: Any) -> bool:
    """Whether a setting is a group without names, such as that of claims."""
    return hasattr(value, "items") and not value


def require_keys(argv: Iterable[str], known: list[str], open_groups: Iterable[str] = ()) -> None:
    """Refuse flags of settings that there are not.

    Raises:
      UserError: a flag `--config.key` whose key the config has not, with one that is like it.
    """
    for flag in argv:
        start, _, key = flag.partition("=")[0].partition("config.")
        key = key.partition("[")[0]  # of a tuple: key[0]
        if start.strip("-") not in ("", "no") or not start.startswith("-") or key in known:
            continue
        if inside := [other for other in known if other.startswith(f"{key}.")]:
            raise UserError(f"'{key}' is a group of settings; set '{inside[0]}' or its like")
        if (group := key.partition(".")[0]) in open_groups:
            raise UserError(f"no flag sets '{group}': say it in a copy of the config file")
        near = nearest(key, known)
        hint = f"the nearest name is '{near}'" if near else "the config file lists the names"
        raise UserError(f"the config has no '{key}'; {hint}")


def by_name(flag: str, known: Container[str]) -> str:
    """`--config.objective=dkd` as `--config.objective.name=dkd`, so for each group with a name; and
    a setting by its `FORMER` name as by today's."""
    name, equals, value = flag.partition("=")
    start, dot, key = name.partition("config.")
    if not dot or start.strip("-") or not start.startswith("-"):
        return flag
    if FORMER.get(key) in known:
        key = FORMER[key]
    elif f"{key}.name" in known:
        key = f"{key}.name"
    return f"{start}config.{key}{equals}{value}"


def spelled(flag: str) -> str:
    """A flag as ml_collections reads it, which takes `models.prune-2` for a subtraction."""
    name, equals, value = flag.partition("=")
    if not name.lstrip("-").startswith(("config.", "noconfig.")):
        return flag
    first, *parts = name.split(".")
    spelt = (f'["{part}"]' if "-" in part else f".{part}" for part in parts)
    return f"{first}{''.join(spelt)}{equals}{value}"


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The known key that somebody may have meant; None where none is like it.

    The last part decides: by its letters, by one within the other (`decay`, `weight_decay`) or as
    initials (`learning_rate`, `lr`). Where several are as near, the place of the whole key does.
    """

    def likeness(one: str, other: str) -> float:
        ratio = difflib.SequenceMatcher(None, one, other).ratio()
        short, long = sorted((one, other), key=len)
        initials = "".join(word[:1] for word in long.split("_"))
        if len(short) > 1 and (short == initials or short in long):
            return max(ratio, 0.8)
        return ratio

    def rank(other: str) -> tuple[float, float]:
        whole = difflib.SequenceMatcher(None, key, other).ratio()
        return likeness(key.rpartition(".")[2], other.rpartition(".")[2]), whole

    best = max(known, key=rank, default=None)
    return best if best and rank(best)[0] >= 0.6 else None


def _flatten(config: Any) -> dict[str, Any]:
    from kdxai.settings import flatten

    return flatten(config)
