"""Where bundles may lie that are loaded while the service runs."""

from pathlib import Path

import pytest

from service.errors import PathRefused
from service.registry.bundle_paths import find_roots, is_named, resolve_path
from service.settings import Settings


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """What looks like a bundle from outside, in a folder of such."""
    bundle = tmp_path / "all/first"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").touch()
    return bundle


def test_a_folder_is_its_own_root_and_a_bundle_has_that_it_lies_in(
    bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(bundle)
    for given, root in (
        (bundle, bundle.parent),
        (bundle.parent, bundle.parent),
        (tmp_path / "empty", tmp_path / "empty"),
        (tmp_path / "link", bundle.parent),
        (tmp_path / "empty/../all/first", bundle.parent),
    ):
        assert find_roots(Settings(bundles=(given,))) == (root,)
    assert find_roots(Settings(bundles=(bundle, bundle.parent))) == (bundle.parent,)


def test_what_leads_nowhere_is_a_root_of_nothing(bundle: Path) -> None:
    """It is refused when it is opened; what it says then is the same on every Python."""
    circle = bundle.parent / "circle"
    circle.symlink_to(circle)
    settings = Settings(bundles=(circle,))
    assert find_roots(settings) == (circle,)
    assert not is_named(bundle, settings)
    for path in (circle, circle / "inside", bundle / "null\0byte"):
        with pytest.raises(PathRefused, match="CLOZE_BUNDLES"):
            resolve_path(str(path), (bundle.parent, circle))


def test_the_root_of_the_file_system_is_none() -> None:
    assert find_roots(Settings(bundles=(Path("/"),))) == ()
    with pytest.raises(PathRefused, match=r"\(none\)"):
        resolve_path("/etc", ())


def test_a_path_leads_where_its_links_lead(bundle: Path, tmp_path: Path) -> None:
    roots = (bundle.parent,)
    (tmp_path / "in").symlink_to(bundle)
    (bundle.parent / "out").symlink_to(tmp_path)
    assert resolve_path(str(tmp_path / "in"), roots) == bundle
    assert resolve_path(str(bundle.parent / "x/../first"), roots) == bundle
    assert resolve_path(str(bundle / "inside"), roots) == bundle / "inside"
    for path in (bundle.parent, bundle.parent / "out", bundle.parent / "out/all"):
        with pytest.raises(PathRefused, match="CLOZE_BUNDLES"):
            resolve_path(str(path), roots)


def test_what_the_settings_find_is_named(bundle: Path) -> None:
    second = bundle.with_name("second")
    by_itself, by_folder = Settings(bundles=(bundle,)), Settings(bundles=(bundle.parent,))
    assert is_named(bundle, by_itself)
    assert not is_named(second, by_itself)
    assert is_named(bundle, by_folder)
    assert is_named(second, by_folder)
    assert not is_named(second / "deeper", by_folder)
