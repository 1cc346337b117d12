"""`speed`: what ``fastoptim bench`` measured."""

import os
from typing import TYPE_CHECKING, Any

from fastoptim.bench import files
from fastoptim.bench.names import LIMIT, LISTING, NO_UPDATE, OURS, PRODUCTS, SHARED, WITH_OUT
from fastoptim.plot import style
from fastoptim.porting.answers import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

LIMIT_GREY = "#8a8a8a"
# The same style in every picture, whoever takes part in it.
ORDER = (
    OURS, LISTING, WITH_OUT, "torch", "torch fused", "Optax jitted", "JAX", "numba",
    "scikit-learn", "thinc", SHARED, PRODUCTS,
)
WHAT = ("steps", "sizes", "cases", "threads")
DOUBTFUL = "hollow: not to be trusted"


def speed(
    bench: dict[str, Any] | str | os.PathLike[str], what: str = "sizes", ax: "Axes | None" = None
) -> "Axes":
    """Draw the figures of a run of ``fastoptim bench``.

    Parameters
    ----------
    bench : dict, or path of a bench.json
        The run.
    what : {"steps", "sizes", "cases", "threads"}, default "sizes"
        "steps": whole training steps, how many times our time each takes. "sizes": time per element
        against the number of elements, with the stream limit and the caches' sizes. "cases": how
        many times our update each takes, case by case. "threads": how many times as fast as one
        thread, with the ideal line.
    ax : matplotlib axes, optional
        Where to draw; a new figure if not given. The legend stands beside the axes.

    Returns
    -------
    Axes
        The axes drawn on. Bars are the quartiles; a hollow marker is a figure not to be trusted.

    Raises
    ------
    ValueError
        Another `what`; a file that is no bench.json of this version; a run without such figures.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import fastoptim.plot
    >>> fastoptim.plot.speed({"format": "something else"})
    Traceback (most recent call last):
    fastoptim.bench.files.NoBench: bench is no bench.json: it lacks "format": "fastoptim bench"
    """
    if what not in WHAT:
        raise ValueError(f"what must be one of {', '.join(WHAT)}, got {shown(what)}")
    run = files.checked(bench) if isinstance(bench, dict) else files.read(bench)
    if not run["updates" if what in ("sizes", "cases") else what]:
        raise ValueError(f"this run has no figures of {what}; measure them with --cases")
    if what == "sizes" and not of_one_array(run):
        raise ValueError("this run has no case of one array; measure some with --size")
    width, height = size(run, what)
    ax = style.axes(ax, width, height)
    {"steps": ratios, "cases": ratios, "sizes": sizes, "threads": scaling}[what](run, what, ax)
    if len(ax.get_legend_handles_labels()[0]) > 1:
        ax.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, borderaxespad=0.0,
            fontsize="small", handlelength=3,
        )
    return ax


def size(run: files.Bench, what: str) -> tuple[float, float]:
    """Return the inches that a picture needs."""
    rows = len(run["steps" if what == "steps" else "updates"]) if what in ("steps", "cases") else 12
    return 9.0, max(3.2, 1.6 + 0.34 * rows)


def look(name: str, trusted: bool = True, line: bool = True) -> dict[str, Any]:
    """Return how a contestant is drawn."""
    if name == LIMIT:
        found: dict[str, Any] = {
            "color": LIMIT_GREY, "linestyle": (0, (1, 1)), "marker": "_", "markeredgewidth": 1.5,
        }
    else:
        k = ORDER.index(name) if name in ORDER else len(ORDER) + sum(map(ord, name)) % 17
        found = style.style(k)
        if name == OURS:
            found["zorder"] = 5
        if not trusted:
            found |= {
                "markerfacecolor": "white", "markeredgecolor": found["color"],
                "markeredgewidth": 1.2,
            }
    return found if line else found | {"linestyle": "none"}


def bars(figure: dict[str, Any], of: float) -> list[list[float]]:
    """Return the quartiles' distances from the median, over a number, as error bars take them."""
    middle = figure["median"]
    return [[(middle - figure["q1"]) / of], [(figure["q3"] - middle) / of]]


def of_one_array(run: files.Bench) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the cases of one array by rule and dtype: those of which `sizes` draws a line."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in run["updates"]:
        if len(cell["shapes"]) == 1:
            groups.setdefault((cell["rule"], cell["dtype"]), []).append(cell)
    return groups


def sizes(run: files.Bench, what: str, ax: "Axes") -> None:
    """Draw time per element against elements: the rule and dtype of most sizes."""
    (rule, dtype), cells = max(of_one_array(run).items(), key=lambda item: len(item[1]))
    cells.sort(key=lambda cell: cell["elements"])
    names = list(dict.fromkeys(name for cell in cells for name in cell["contestants"]))
    for name in names:
        points = [
            (cell["elements"], cell["contestants"][name], cell["quiet"])
            for cell in cells if name in cell["contestants"]
        ]
        ax.plot(
            [n for n, _, _ in points], [1e9 * f["median"] / n for n, f, _ in points], label=name,
            markersize=6.5, linewidth=2.2 if name == OURS else 1.3, **look(name),
        )
        for n, figure, quiet in points:
            middle = 1e9 * figure["median"] / n
            trusted = quiet and figure["steady"]
            drawn = look(name, trusted, line=False)
            ax.errorbar(
                [n], [middle], yerr=bars(figure, 1e-9 * n), ecolor=drawn["color"],
                elinewidth=0.9, capsize=2, markersize=6.5, **drawn,
            )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("elements updated")
    ax.set_ylabel("time per element, ns")
    ax.set_title(f"{rule}, {dtype}: update alone")
    in_words(ax.yaxis, *ax.get_ylim(), "{x:g}")
    style.plain(ax)
    mark_caches(run, cells, ax)
    doubts(ax, all(c["quiet"] and f["steady"] for c in cells for f in c["contestants"].values()))


def mark_caches(run: files.Bench, cells: list[dict[str, Any]], ax: "Axes") -> None:
    """Mark where parameter, gradient and state of one contestant fill a cache."""
    cell = cells[0]
    item = 4 if cell["dtype"] == "float32" else 8
    arrays = 2 + (cell["bytes_moved"] // (cell["elements"] * item) - 3) // 2
    left, right = ax.get_xlim()
    for name, total in (run["machine"]["caches"] or {}).items():
        n = total / (arrays * item)
        if left < n < right:
            ax.axvline(n, color="#b0b0b0", linewidth=1.0, zorder=0)
            ax.annotate(
                f"{name} full", (n, 1.0), xycoords=("data", "axes fraction"), xytext=(-3, -4),
                textcoords="offset points", rotation=90, ha="right", va="top", fontsize="small",
                color="#606060",
            )


def doubts(ax: "Axes", none: bool) -> None:
    """Say below the axes what a hollow marker is, if there is one."""
    if not none:
        ax.annotate(
            DOUBTFUL, (1.0, 0.0), xycoords="axes fraction", xytext=(0, -34),
            textcoords="offset points", ha="right", va="top", fontsize="small", color="#606060",
        )


def in_words(axis: "Axis", low: float, high: float, words: str) -> None:
    """Label a logarithmic axis in few ticks: where there is no decade, matplotlib's overlap."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 3 * low else range(1, 10)))
    axis.set_major_formatter(words)
    axis.set_minor_formatter(NullFormatter())


def ratios(run: files.Bench, what: str, ax: "Axes") -> None:
    """Draw a row of dots for each case: how many times our time everyone takes."""
    if what == "steps":
        rows = [
            (cell["title"], cell["quiet"], {
                name: both["step"] for name, both in cell["contestants"].items()
                if not name.startswith("fixed ")
            })
            for cell in run["steps"] if OURS in cell["contestants"]
        ]
    else:
        rows = [
            (f"{cell['rule']}, {cell['dtype']}, {cell['title']}", cell["quiet"],
             cell["contestants"])
            for cell in run["updates"]
        ]
    names = list(dict.fromkeys(name for _, _, figures in rows for name in figures))
    sure = True
    for name in names:
        if name == OURS:
            continue
        if name in (LIMIT, NO_UPDATE):
            full: dict[str, Any] = {
                "color": LIMIT_GREY, "marker": "|", "markersize": 13, "markeredgewidth": 2.2,
                "linestyle": "none",
            }
        else:
            full = look(name, line=False) | {"markersize": 7}
        ax.plot([], [], label=name, **full)  # in the legend no marker is hollow
        for place, (_, quiet, figures) in enumerate(rows):
            if name not in figures:
                continue
            ours, figure = figures[OURS], figures[name]
            trusted = quiet and figure["steady"] and ours["steady"]
            sure = sure and trusted
            drawn = full
            if name not in (LIMIT, NO_UPDATE):
                drawn = full | look(name, trusted, line=False)
            ax.errorbar(
                [figure["median"] / ours["median"]], [place],
                xerr=bars(figure, ours["median"]), ecolor=drawn["color"], elinewidth=0.9,
                **drawn,
            )
    ax.axvline(1.0, color="black", linewidth=1.4, zorder=1)
    ax.annotate(
        OURS, (1.0, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 3),
        textcoords="offset points", ha="center", va="bottom", fontsize="small",
    )
    ax.set_xscale("log")
    in_words(ax.xaxis, *ax.get_xlim(), "{x:g}×")
    ax.set_yticks(range(len(rows)), [title for title, _, _ in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    step = "a whole training step" if what == "steps" else "an update alone"
    ax.set_xlabel(f"time of {step}, fastoptim = 1×")
    style.plain(ax)
    doubts(ax, sure)


def scaling(run: files.Bench, what: str, ax: "Axes") -> None:
    """Draw how many times as fast as on one thread, and the ideal."""
    most, sure = 1, True
    for k, cell in enumerate(run["threads"]):
        by = {int(n): figure for n, figure in cell["contestants"][OURS].items()}
        limit = {int(n): figure for n, figure in cell["contestants"][LIMIT].items()}
        most = max(most, *by)
        one = min(by)
        for which, name in ((by, cell["title"]), (limit, "")):
            drawn = style.style(k)
            if not name:
                drawn |= {"linestyle": (0, (1, 1)), "marker": ""}
                label = f"{cell['title']}: {LIMIT}"
            else:
                label = f"{cell['rule']}, {cell['dtype']}, {name}"
            ax.plot(
                list(which), [which[one]["median"] / f["median"] for f in which.values()],
                label=label, markersize=7, linewidth=1.5, **drawn,
            )
            sure = sure and cell["quiet"] and all(f["steady"] for f in which.values())
            for n, figure in which.items():
                if name and not (cell["quiet"] and figure["steady"]):
                    ax.plot(
                        [n], [which[one]["median"] / figure["median"]], markersize=7, zorder=4,
                        **drawn | {
                            "markerfacecolor": "white", "markeredgecolor": drawn["color"],
                            "linestyle": "none",
                        },
                    )
    ticks = sorted({int(n) for cell in run["threads"] for n in cell["contestants"][OURS]})
    ax.plot([1, most], [1, most], color="#b0b0b0", linewidth=1.2, zorder=0, label="ideal")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks(ticks, [str(n) for n in ticks])
    ax.yaxis.set_major_formatter("{x:g}×")
    ax.minorticks_off()
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 0.7), max(high, 1.4))
    ax.set_xlabel("threads")
    ax.set_ylabel("times as fast as on one thread")
    ax.set_title("Update alone, by threads")
    style.plain(ax)
    doubts(ax, sure)
