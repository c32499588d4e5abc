"""Which engine answers, and of which of a bundle's graphs: decided when the bundle is opened.

Never decides the precision, so that two machines answer alike within what the bundle proved.
"""

from contextlib import suppress
from dataclasses import dataclass

from models.bundle.bundle import Bundle
from models.bundle.manifest import trunk_file
from models.engines import ENGINE, ENGINES, KERNELS
from models.engines.library import DOMAIN, VERSION, Kernels, find_kernels
from models.errors import OperatorError, SettingsError
from models.lens.versions import read_version

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine, the trunk's graph that it runs, and why it is this one.

    `streams`: the graph knows texts by their starts, and wants no rows.
    """

    engine: str
    trunk: str
    reason: str
    streams: bool = False


def choose_engine(bundle: Bundle, precision: str, wanted: str = AUTO) -> Choice:
    """The engine that is wanted, or the first that runs here: our kernels, then ONNX Runtime alone.

    Raises SettingsError for an engine there is not, and OperatorError where the bundle or this
    machine has not what the one that is wanted needs.
    """
    if wanted not in list_engines():
        known = ", ".join(list_engines())
        raise SettingsError(f"{wanted!r} is not an engine; choose from {known}", param="engine")
    files = bundle.manifest.files
    standard, form = trunk_file(precision), trunk_file(precision, KERNELS)
    if wanted not in (AUTO, KERNELS):
        if standard not in files:
            raise OperatorError(
                f"bundle {bundle.manifest.name!r} has {precision} for the engine {KERNELS} alone; "
                "choose that, or another precision"
            )
        return Choice(wanted, standard, "it was asked for")
    lacking = _find_lacking(bundle, precision)
    if lacking is None:
        asked = "it was asked for" if wanted == KERNELS else "the bundle and this machine have it"
        return Choice(KERNELS, form, asked, streams=True)
    if wanted == KERNELS or standard not in files:
        raise OperatorError(f"{precision} of {bundle.path} cannot be run by {KERNELS}: {lacking}")
    return Choice(ENGINE, standard, lacking)


def list_engines() -> tuple[str, ...]:
    """What may be wanted."""
    return AUTO, *ENGINES


def list_choices(bundle: Bundle) -> list[tuple[str, str]]:
    """Each precision with each engine that runs it here, the plain one first."""
    files = bundle.manifest.files
    found = []
    for precision in bundle.manifest.precisions:
        if trunk_file(precision) in files:
            found.append((precision, ENGINE))
        if _find_lacking(bundle, precision) is None:
            found.append((precision, KERNELS))
    return found


def _find_lacking(bundle: Bundle, precision: str) -> str | None:
    """What the kernels lack to run it, None for nothing."""
    form = trunk_file(precision, KERNELS)
    if form not in bundle.manifest.files:
        return "the bundle has no graph for the kernels; export it again where they are built"
    kernels = find_kernels()
    if not isinstance(kernels, Kernels):
        return kernels.reason
    # What is no graph at all is said when it is opened.
    with suppress(ValueError):
        version = read_version(bundle.file(form), DOMAIN)
        if version is not None and version != VERSION:
            return (
                f"the bundle's graph is for version {version} of the kernels, and this is "
                f"{VERSION}; export it again"
            )
    if precision == "bf16" and not kernels.half:
        return "this processor has no units for products in bfloat16; choose another precision"
    return None
