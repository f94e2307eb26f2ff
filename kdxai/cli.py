"""What every launch script does around its one library call."""

import difflib
import logging as standard_logging
import os
import runpy
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.training import devices
from kdxai.training.runs import flatten

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, such as configs/teacher.py; change a value by --config.key=value."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Directory for everything that is written.")


def run(main: Callable[[ConfigDict, str], Any], *, needs: str) -> None:
    """Parse the command line and call `main(config, workdir)`.

    Args:
      needs: a key that tells this script's configs from those of the others.

    What the user can mend ends in one line on stderr and exit code 2.
    """
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every file
    # Its tasks that met a damaged file report it once more when they are collected.
    standard_logging.getLogger("asyncio").setLevel(standard_logging.CRITICAL)
    if not jax.config.jax_compilation_cache_dir:
        # Compiling is minutes on a small machine, and the same for every run of a config.
        jax.config.update("jax_compilation_cache_dir", str(datasets.cache_root() / "compiled"))
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)

    def call(_: list[str]) -> None:
        values, known = flatten(CONFIG.value), flags.FLAGS
        if not any(name in known and known[name].value for name in ("coordinator", "distributed")):
            devices.use_cores(values[key] for key in values if key.endswith("batch_size"))
        main(CONFIG.value, WORKDIR.value)

    try:
        app.run(call, flags_parser=partial(parse, needs))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        raise SystemExit(130) from None


def parse(needs: str, argv: list[str]) -> list[str]:
    """Parse absl flags.

    Raises:
      UserError: a flag, config file or config key that is missing, unknown or malformed.
    """
    try:
        rest = flags.FLAGS(argv)
    except AttributeError as error:
        raise UserError(unknown_key(argv) or " ".join(str(error).split())) from error
    except Exception as error:  # A config file may raise anything.
        raise UserError(" ".join(str(error).split())) from error
    if len(rest) > 1:
        raise UserError(f"'{rest[1]}' is not a flag; flags start with --")
    if CONFIG.value is not None and not isinstance(CONFIG.value, ConfigDict):
        raise UserError(
            f"there is no config file {config_path(argv)}"
        )  # found only when it is used
    for name, value in (("config", CONFIG.value), ("workdir", WORKDIR.value)):
        if value is None:
            raise UserError(f"--{name} is missing; --help lists the flags")
    if needs not in CONFIG.value:
        script = os.path.basename(argv[0])
        raise UserError(f"{config_path(argv)} is no config for {script}: it has no '{needs}'")
    return rest


def unknown_key(argv: list[str]) -> str | None:
    """Which `--config.key` the config has not, and the nearest that it has."""
    path, _, argument = config_path(argv).partition(":")
    get_config = runpy.run_path(path)["get_config"]
    known = list(flatten(get_config(argument) if argument else get_config()))
    for flag in argv:
        key = flag.lstrip("-").partition("=")[0].removeprefix("config.")
        if flag.startswith(("--config.", "-config.")) and key not in known:
            near = difflib.get_close_matches(key, known, 1, cutoff=0)[0]
            return f"the config has no '{key}'; the nearest name is '{near}'"
    return None


def config_path(argv: list[str]) -> str:
    """The value of --config in a command line."""
    for flag, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = flag.lstrip("-").partition("=")
        if flag.startswith("-") and name == "config":
            return value if equals else following
    return ""
