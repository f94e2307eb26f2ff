"""What a benchmark found, as a table and as JSON."""

import os
import platform
import resource
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import pandas as pd
from ml_collections import ConfigDict

from kdxai import devices, files
from kdxai.report import tables

NARROW = ("time", "kdxai is", "target", "agreement")  # what 80 characters hold
LIBRARIES = ("torch", "grad-cam", "quantus", "captum")


class Row(NamedTuple):
    """One task by one library.

    Attributes:
      task, library, unit, units: what was done, by whom, and how much of it in one call.
      milliseconds, low, high: per unit; the median, the fastest and the slowest call.
      cpu_milliseconds: processor time per unit, the median; see `timing.Seconds`.
      repeats: calls timed.
      per_second: units in the median call, over its seconds.
      gflops, gbytes: of the median call per second, in 10^9, where the task counts operations or
        bytes.
      ceiling: its gflops over those of the matrix product of the same run.
      ratio: its milliseconds over kdxai's; None for kdxai itself, and where there is none to tell.
      cpu_ratio: the same of the processor times.
      target: the ratio aimed at.
      agreement: the smallest Pearson's r of an image's result with kdxai's.
      note: why there is no ratio, or how the definition differs.
    """

    task: str
    library: str
    unit: str
    units: int
    milliseconds: float | None = None
    low: float | None = None
    high: float | None = None
    cpu_milliseconds: float | None = None
    repeats: int = 0
    per_second: float | None = None
    gflops: float | None = None
    gbytes: float | None = None
    ceiling: float | None = None
    ratio: float | None = None
    cpu_ratio: float | None = None
    target: float | None = None
    agreement: float | None = None
    note: str = ""


def readable(rows: list[Row]) -> pd.DataFrame:
    """Rows as people read them, indexed by task."""

    def cells(row: Row) -> dict[str, str]:
        verdict = ""
        if row.target is not None:
            met = row.ratio is not None and row.ratio >= row.target
            verdict = f"≥ {row.target:g}x: {'met' if met else 'not met'}"
        return {
            "task": row.task,
            "library": row.library,
            "time": "" if row.milliseconds is None else f"{row.milliseconds:.3g} ms/{row.unit}",
            "fastest to slowest": "" if row.low is None else f"{row.low:.3g} to {row.high:.3g}",
            "per second": rate(row),
            "of the matrix product": "" if row.ceiling is None else f"{row.ceiling:.0%}",
            "kdxai is": "" if row.ratio is None else f"{row.ratio:.2f}x as fast",
            "by CPU time": "" if row.cpu_ratio is None else f"{row.cpu_ratio:.2f}x",
            "target": verdict,
            "agreement": "" if row.agreement is None else f"r ≥ {row.agreement:.4f}",
            "note": row.note,
        }

    table = pd.DataFrame([cells(row) for row in rows]).set_index("task")
    return table.loc[:, (table != "").any()]


def markdown(wide: pd.DataFrame) -> str:
    """A table of `readable` as a Markdown table."""
    rows = [[wide.index.name or "", *wide.columns], ["---"] * (len(wide.columns) + 1)]
    rows += [[name, *row] for name, row in zip(wide.index, wide.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(map(cell, row)) + " |" for row in rows)


def cell(value: object) -> str:
    """What a cell of a Markdown table holds, in one line and without its borders."""
    return " ".join(str(value).split()).replace("|", "\\|")


def rate(row: Row) -> str:
    """`70 images, 68 GFLOP`: what a second brings."""
    if row.per_second is None:
        return ""
    parts = [f"{row.per_second:,.0f} images"] if row.unit == "image" else []
    parts += [f"{row.gflops:,.0f} GFLOP"] if row.gflops else []
    parts += [f"{row.gbytes:,.1f} GB"] if row.gbytes else []
    return ", ".join(parts)


def peak_memory() -> float:
    """GiB that the process has held at most: of the accelerator, or of the host's memory."""
    if statistics := jax.local_devices()[0].memory_stats():
        return statistics["peak_bytes_in_use"] / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def show(rows: list[Row]) -> None:
    """Print the table: on a narrow terminal what the target is about, and the notes below it."""
    console = tables.new_console()
    table = readable(rows)
    known = machine()
    place = known["cpu" if known["backend"] == "cpu" else "devices"]
    console.print(f"Benchmark on {place}, at most {peak_memory():.1f} GiB of memory")
    if console.width >= tables.FULL:
        console.print(tables.terminal(table))
        return
    names = [name for name in NARROW if name in table]
    narrow = table[names].set_axis([f"{row.task}, {row.library}" for row in rows], axis=0)
    console.print(tables.terminal(narrow))
    for row in rows:
        if row.note:
            console.print(f"{row.task}, {row.library}: {row.note}")


def write(workdir: Path, config: ConfigDict, rows: list[Row]) -> None:
    """`benchmark.json`, complete, and `benchmark.md`, the table."""
    files.write_json(
        workdir / "benchmark.json",
        {
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "peak_memory_gib": peak_memory(),
            "config": config.to_dict(),
            "rows": [row._asdict() for row in rows],
        },
    )
    files.write_text(workdir / "benchmark.md", markdown(readable(rows)) + "\n")


def machine() -> dict[str, Any]:
    """`devices.machine`, the processor, and the versions of the peers that are installed."""
    versions = {}
    for package in LIBRARIES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {"cpu": processor(), "backend": jax.default_backend(), **devices.machine(), **versions}


def processor() -> str:
    """`2 x AMD EPYC 9374F`: the cores that this process may use, and their model."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
        cores = len(os.sched_getaffinity(0))
    except (OSError, StopIteration, AttributeError):  # not Linux
        name, cores = platform.processor() or platform.machine(), os.cpu_count() or 1
    return f"{cores} x {name}"
