"""Which engine answers, and of which of a bundle's graphs: decided when the bundle is opened.

Never decides the precision, so that two machines answer alike within what the bundle proved.
"""

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from models.bundle.bundle import Bundle
from models.bundle.manifest import trunk_file
from models.engines import CUDA, ENGINE, ENGINES, KERNELS, OPENVINO
from models.engines.library import DOMAIN, VERSION, Kernels, find_kernels
from models.errors import OperatorError, SettingsError
from models.lens.versions import read_version

AUTO = "auto"
MAX_BATCH_TOKENS = 512
# A GPU takes as long for a few thousand as for a few hundred.
GPU_BATCH_TOKENS = 16_384
# By how each is expected to do where nothing is measured.
_ORDER = (CUDA, KERNELS, ENGINE, OPENVINO)
_ON_A_GPU = ("fp16", "fp32")
# What the exporter proves; another engine proves itself by the golden answers where it runs.
PROVEN = (ENGINE, KERNELS)


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine, the trunk's graph that it runs, and why it is this one.

    `streams`: the graph knows texts by their starts, and wants no rows.
    """

    engine: str
    trunk: str
    reason: str
    streams: bool = False

    @property
    def batch_tokens(self) -> int:
        """How many tokens a batch has unless somebody says otherwise."""
        return GPU_BATCH_TOKENS if self.engine == CUDA else MAX_BATCH_TOKENS


def choose_engine(bundle: Bundle, precision: str, wanted: str = AUTO) -> Choice:
    """The engine that is wanted, or the first that runs here.

    That is a GPU where ONNX Runtime has one, then our kernels, then ONNX Runtime alone.

    Raises SettingsError for an engine there is not, and OperatorError where the bundle or this
    machine has not what the one that is wanted needs.
    """
    if wanted not in list_engines():
        known = ", ".join(list_engines())
        raise SettingsError(f"{wanted!r} is not an engine; choose from {known}", param="engine")
    lacking: dict[str, str] = {}
    for engine in _ORDER if wanted == AUTO else (wanted,):
        reason = _find_lacking(bundle, precision, engine)
        if reason is None:
            return _choose(bundle, precision, engine, _explain(wanted, lacking))
        lacking[engine] = reason
    # What the fastest lacks is what helps most; a GPU would have to be there.
    engine, reason = next((each for each in lacking.items() if each[0] != CUDA), (wanted, reason))
    raise OperatorError(f"{precision} of {bundle.path} cannot be run by {engine}: {reason}")


def list_candidates(bundle: Bundle, precision: str) -> list[Choice]:
    """What is worth trying here: what `auto` takes, and OpenVINO where it is installed.

    ONNX Runtime alone is no rival of the kernels, but stands in where they do not run. A GPU has
    none: a few short texts do not show what it reaches. Raises OperatorError where nothing does.
    """
    first = choose_engine(bundle, precision)
    if first.engine in {CUDA, OPENVINO} or _find_lacking(bundle, precision, OPENVINO) is not None:
        return [first]
    return [first, _choose(bundle, precision, OPENVINO, "it runs here")]


def list_engines() -> tuple[str, ...]:
    """What may be wanted."""
    return AUTO, *ENGINES


def list_choices(bundle: Bundle, engines: tuple[str, ...] = PROVEN) -> list[tuple[str, str]]:
    """Each precision with each of the engines that runs it here, in their order."""
    return [
        (precision, engine)
        for precision in bundle.manifest.precisions
        for engine in engines
        if _find_lacking(bundle, precision, engine) is None
    ]


def _choose(bundle: Bundle, precision: str, engine: str, reason: str) -> Choice:
    if engine == KERNELS:
        return Choice(engine, trunk_file(precision, KERNELS), reason, streams=True)
    packed = trunk_file(precision, "packed")
    if engine == CUDA and packed in bundle.manifest.files:
        return Choice(engine, packed, reason, streams=True)
    # OpenVINO computes in bfloat16 what is stored as fp32.
    stored = "fp32" if engine == OPENVINO and precision == "bf16" else precision
    return Choice(engine, trunk_file(stored), reason)


def _explain(wanted: str, lacking: dict[str, str]) -> str:
    if wanted != AUTO:
        return "it was asked for"
    return lacking.get(KERNELS, "the bundle and this machine have it")


def _find_lacking(bundle: Bundle, precision: str, engine: str) -> str | None:
    """What an engine lacks to run it, None for nothing."""
    if engine == KERNELS:
        return _find_lacking_kernels(bundle, precision)
    if engine == CUDA and precision not in _ON_A_GPU:
        return f"{precision} is for processors; choose one of {', '.join(_ON_A_GPU)}"
    if _choose(bundle, precision, engine, "").trunk not in bundle.manifest.files:
        return (
            f"bundle {bundle.manifest.name!r} has {precision} for the engine {KERNELS} alone; "
            "choose that, or another precision"
        )
    if engine == OPENVINO:
        return _find_lacking_openvino(precision)
    lacking: str | None = None
    if engine == CUDA:
        lacking = import_module(ENGINES[CUDA]).find_lacking()
    return lacking


def _find_lacking_openvino(precision: str) -> str | None:
    if find_spec("openvino") is None:
        return (
            "the package openvino is not installed; Cloze's extra of the same name has it, as pip "
            "install 'openvino>=2026.4,<2027'"
        )
    # To import it takes longer than to open a small bundle.
    return _find_lacking_half() if precision == "bf16" else None


def _find_lacking_half() -> str | None:
    try:
        return None if import_module(ENGINES[OPENVINO]).has_half() else _NO_HALF
    except ImportError as error:
        return f"the package openvino cannot be loaded here ({error}); install it again"


_NO_HALF = "this processor has no units for products in bfloat16; choose another precision"


def _find_lacking_kernels(bundle: Bundle, precision: str) -> str | None:
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
    return None if kernels.half or precision != "bf16" else _NO_HALF
