"""Bundles from disk: which ones the settings name, where others may lie, how one is opened.

Knows nothing of what answers requests; the registry does.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from models.bundle.bundle import MANIFEST, Bundle, find_bundles
from models.choice import AUTO, Choice, choose_engine, list_candidates
from models.contest import choose_fastest
from models.errors import SettingsError
from models.paths import exists, find_cache_dir, follow, is_circle
from models.pipeline import Pipeline
from service.errors import PathRefused
from service.registry.memory import check_memory
from service.settings import Settings

Refuse = Callable[[Path, Exception], None]

_log = structlog.get_logger(__name__)


def open_pipeline(
    bundle: Bundle, precision: str | None, settings: Settings, *, serving: bool = False
) -> Pipeline:
    """A pipeline of a bundle that was opened. Raises an OperatorError.

    While `serving`, what might not fit into memory beside what runs is refused.
    """
    precision = bundle.choose_precision(precision, min_cosine=settings.min_cosine)
    check_memory(bundle, precision, serving=serving)
    pipeline = Pipeline(
        bundle,
        precision=precision,
        threads=settings.threads,
        spin=settings.spin,
        engine=choose_here(bundle, precision, settings),
        load_timeout_s=settings.load_timeout_s,
        default_prompt=settings.default_prompt,
    )
    trunk = pipeline.trunk
    name, choice = bundle.manifest.name, pipeline.choice
    _log.info(
        "threads",
        model=name,
        threads=trunk.threads,
        spin=trunk.spin,
        engine=choice.engine,
        reason=choice.reason,
    )
    return pipeline


def choose_here(bundle: Bundle, precision: str, settings: Settings) -> Choice:
    """The engine that the settings name, or the fastest that runs here. Raises an OperatorError."""
    if settings.engine != AUTO:
        return choose_engine(bundle, precision, settings.engine)
    choice, contest = choose_fastest(
        bundle,
        precision,
        list_candidates(bundle, precision),
        threads=settings.threads,
        spin=settings.spin,
        folder=settings.cache_dir or find_cache_dir(),
        load_timeout_s=settings.load_timeout_s,
    )
    for engine, reason in contest.refused.items() if contest else ():
        _log.warning(
            "an engine was left out", model=bundle.manifest.name, engine=engine, why=reason
        )
    return choice


def open_bundles(settings: Settings, refuse: Refuse) -> dict[str, Bundle]:
    """The bundles of the settings, opened and checked, by name; `refuse` hears what is not."""
    bundles: dict[str, Bundle] = {}
    for given in settings.bundles:
        try:
            paths = find_bundles(given)
        except Exception as error:
            refuse(given, error)
            continue
        if not paths:
            _log.warning("no bundles yet", folder=str(given))
        for path in paths:
            try:
                _add_bundle(bundles, path, named=path == given)
            except Exception as error:
                refuse(path, error)
    return bundles


def find_roots(settings: Settings) -> tuple[Path, ...]:
    """Where a bundle may lie that is loaded later: the folders of the settings' bundles.

    A folder of bundles itself, of a bundle the folder it lies in; links are followed. The root
    of the file system is none: every file would lie in it.
    """
    named = [follow(path) for path in settings.bundles]
    roots = [path.parent if _holds_manifest(path) else path for path in named]
    return tuple(dict.fromkeys(root for root in roots if root != root.parent))


def is_named(path: Path, settings: Settings) -> bool:
    """Whether the settings name the bundle at that path, or the folder it lies in."""
    named = [follow(given) for given in settings.bundles]
    return follow(path) in named or follow(path).parent in named


def resolve_path(given: str, roots: Sequence[Path]) -> Path:
    """Where a path leads, links followed. Raises PathRefused unless that is inside of a root.

    What it says is the same whether there is something at the path or not.
    """
    try:
        path = follow(Path(given))
        leads = not is_circle(path)
    except (OSError, ValueError):  # a null byte
        leads = False
    if not leads or not any(root in path.parents for root in roots):
        folders = ", ".join(map(str, roots)) or "none"
        raise PathRefused(
            "bundles are loaded only from inside of the folders of CLOZE_BUNDLES "
            f"({folders}); put it there, or name its folder in CLOZE_BUNDLES and restart",
            param="path",
        )
    return path


def _holds_manifest(path: Path) -> bool:
    """Whether it is a bundle; of a folder that may not be looked into, nobody can say so."""
    try:
        return exists(path / MANIFEST)
    except OSError:
        return False


def _add_bundle(bundles: dict[str, Bundle], path: Path, *, named: bool) -> None:
    bundle = Bundle.open(path)
    other = bundles.setdefault(bundle.manifest.name, bundle)
    if other is bundle:
        return
    if follow(other.path) == follow(path):
        if named:
            raise SettingsError(f"{path} is given twice; name it once")
        return  # named itself, to come first, and in a folder of bundles
    raise SettingsError(
        f"{other.path} and {path} are both named {bundle.manifest.name!r}; "
        "export one of them again with --name"
    )
