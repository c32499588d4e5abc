"""A bundle opens only if its format is known and every file is the one that was exported."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models import Pipeline
from models.bundle.bundle import MANIFEST, Bundle, find_bundles, hash_file
from models.bundle.manifest import FORMAT_VERSION
from models.errors import BundleDamaged, BundleError, BundleNotFound, BundleTooNew, OperatorError
from tests.helpers.bundles import list_trunks
from tests.helpers.checkpoints import change_json, write_json

FILES = [
    "golden.json",
    "head.fill-mask.onnx",
    "head.next-sentence.onnx",
    "tokenizer.json",
    *list_trunks("fp32"),
]
# A manifest that leaves out the kernels' form is that of an older exporter.
NEEDED = [name for name in FILES if "kernels" not in name]


@pytest.fixture
def bundle(pretraining_bundle: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    copy = tmp_path / "bundle"
    shutil.copytree(pretraining_bundle, copy)
    return copy


def test_a_sound_bundle_opens(bundle: Path) -> None:
    opened = Bundle.open(str(bundle))
    assert sorted(opened.manifest.files) == FILES
    assert opened.manifest.name == "tiny-pretraining"
    assert opened.file("golden.json") == bundle / "golden.json"
    for name, entry in opened.manifest.files.items():
        assert hash_file(bundle / name) == entry.sha256


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_flipped_bit_is_found(bundle: Path, name: str, where: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    place = {"first": 0, "middle": len(content) // 2, "last": -1}[where]
    content[place] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleDamaged, match=name) as caught:
        Pipeline.open(bundle)
    assert "sha256" in caught.value.message


@pytest.mark.parametrize("name", FILES)
def test_a_cut_or_missing_file_is_found(bundle: Path, name: str) -> None:
    content = (bundle / name).read_bytes()
    for changed in (b"", content[:-1], content + b"\n"):
        (bundle / name).write_bytes(changed)
        with pytest.raises(BundleDamaged, match=f"{name} has {len(changed)} bytes"):
            Pipeline.open(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleDamaged, match=f"{name} cannot be read"):
        Pipeline.open(bundle)
    (bundle / name).mkdir()
    with pytest.raises(BundleDamaged, match=name):
        Pipeline.open(bundle)


def test_nothing_there(tmp_path: Path) -> None:
    file = write_json(tmp_path / "file", {})
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "no", tmp_path / "empty", file):
        with pytest.raises(BundleNotFound, match="python -m export SOURCE OUT"):
            Pipeline.open(path)
    (tmp_path / "empty" / MANIFEST).mkdir()
    with pytest.raises(BundleNotFound, match="cannot be read"):
        Pipeline.open(tmp_path / "empty")


def test_a_newer_format_is_told_apart_from_a_broken_one(bundle: Path) -> None:
    # A newer manifest need not be one of ours in anything but its version.
    write_json(bundle / MANIFEST, {"format_version": FORMAT_VERSION + 1, "all": "new"})
    with pytest.raises(BundleTooNew, match="upgrade the service"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"3",
        b"{}",
        b'{"format_version": "1"}',
        b"[" * 100_000,
    ],
)
def test_a_broken_manifest(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(BundleDamaged, match=r"manifest\.json"):
        Bundle.open(bundle)


@pytest.mark.parametrize("version", [0, -1, None, "2", 1.5])
def test_versions_there_never_were(bundle: Path, version: Any) -> None:
    content = json.loads((bundle / MANIFEST).read_text()) | {"format_version": version}
    write_json(bundle / MANIFEST, content)
    with pytest.raises(BundleDamaged, match="format_version"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "name",
    ["../outside.json", "/etc/hostname", "a/../../outside.json", "..\\outside.json", "", "."],
)
def test_files_outside_the_bundle(bundle: Path, name: str) -> None:
    outside = write_json(bundle.parent / "outside.json", {})
    content = json.loads((bundle / MANIFEST).read_text())
    entry = {"sha256": hash_file(outside), "bytes": outside.stat().st_size}
    content["files"][name] = entry
    write_json(bundle / MANIFEST, content)
    with pytest.raises(BundleDamaged, match="not a file inside the bundle"):
        Bundle.open(bundle)
    del content["files"][name]
    content["heads"][1]["file"] = name or "../x"
    write_json(bundle / MANIFEST, content)
    with pytest.raises(BundleDamaged):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", NEEDED)
def test_a_manifest_that_leaves_out_a_file_it_needs(bundle: Path, name: str) -> None:
    content = json.loads((bundle / MANIFEST).read_text())
    del content["files"][name]
    write_json(bundle / MANIFEST, content)
    with pytest.raises(BundleDamaged, match=f"files does not list {name}"):
        Bundle.open(bundle)


def test_a_field_of_the_wrong_kind_is_named(bundle: Path) -> None:
    sound = json.loads((bundle / MANIFEST).read_text())
    for key, value in (
        ("max_tokens", 0),
        ("layout", "round"),
        ("heads", []),
        ("name", ""),
        ("precisions", []),
        ("position_start", -1),
        ("files", {"x": {"sha256": "short", "bytes": 1}}),
        ("vocabulary_size", None),
    ):
        write_json(bundle / MANIFEST, sound | {key: value})
        with pytest.raises(BundleDamaged, match=key) as caught:
            Bundle.open(bundle)
        assert "\n" not in caught.value.message


def test_fields_of_a_later_exporter_are_left_alone(bundle: Path) -> None:
    change_json(bundle / MANIFEST, colour="green")
    assert Bundle.open(bundle).manifest.name == "tiny-pretraining"


def test_files_that_the_manifest_does_not_list_are_left_alone(bundle: Path) -> None:
    before = Bundle.open(bundle).fingerprint
    (bundle / "notes.txt").write_text("mine")
    assert Bundle.open(bundle).fingerprint == before


def test_the_fingerprint_changes_with_a_file(bundle: Path, classify_bundle: Path) -> None:
    before = Bundle.open(bundle).fingerprint
    assert len(before) == 16
    assert before != Bundle.open(classify_bundle).fingerprint
    golden = bundle / "golden.json"
    golden.write_text(golden.read_text() + "\n")
    content = json.loads((bundle / MANIFEST).read_text())
    entry = {"sha256": hash_file(golden), "bytes": golden.stat().st_size}
    content["files"]["golden.json"] = entry
    write_json(bundle / MANIFEST, content)
    assert Bundle.open(bundle).fingerprint != before


def test_the_fingerprint_changes_with_what_the_manifest_says(bundle: Path) -> None:
    before = Bundle.open(bundle).fingerprint
    change_json(bundle / MANIFEST, tools={"python": "4"})
    assert Bundle.open(bundle).fingerprint == before
    heads = json.loads((bundle / MANIFEST).read_text())["heads"]
    heads[0]["pooling"] = "max"
    change_json(bundle / MANIFEST, heads=heads)
    assert Bundle.open(bundle).fingerprint != before


def test_precisions(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert opened.choose_precision() == opened.choose_precision("fp32") == "fp32"
    for offered, chosen in ((("int8", "fp32"), "fp32"), (("int8",), "int8")):
        manifest = opened.manifest.model_copy(update={"precisions": offered})
        assert Bundle(bundle, manifest).choose_precision() == chosen
    manifest = opened.manifest.model_copy(update={"precisions": ("int8", "fp16")})
    with pytest.raises(OperatorError, match="choose one of int8, fp16"):
        Bundle(bundle, manifest).choose_precision()
    with pytest.raises(OperatorError, match="no precision 'fp32'"):
        Bundle(bundle, manifest).choose_precision("fp32")


def test_the_precision_auto_is_the_proofs(pretraining_bundle: Path) -> None:
    """The lightest that no row of it, of any engine, has further away, or accepted."""
    opened = Bundle.open(pretraining_bundle)
    (row,) = [
        each
        for each in opened.manifest.parity
        if each.engine == "onnxruntime" and each.task == "embed"
    ]

    def choose(
        *rows: tuple[str, str, float | None, bool], min_cosine: float = 0.997, **update: Any
    ) -> str:
        parity = tuple(
            row.model_copy(
                update={
                    "precision": precision,
                    "engine": engine,
                    "worst_cosine": cosine,
                    "lossy": lossy,
                }
            )
            for precision, engine, cosine, lossy in rows
        )
        given = {"precisions": ("fp32", "bf16", "int8", "fp16"), "parity": parity} | update
        manifest = opened.manifest.model_copy(update=given)
        return Bundle(opened.path, manifest).choose_precision("auto", min_cosine=min_cosine)

    sound, half = ("int8", "kernels", 0.998, False), ("bf16", "kernels", 0.9999, False)
    assert choose(sound, half) == "int8"
    assert choose(sound, half, min_cosine=0.999) == "bf16"
    assert choose(sound, half, min_cosine=0.99999) == "fp32"
    assert choose(sound, ("int8", "onnxruntime", 0.99, False), half) == "bf16"
    assert choose(sound, ("int8", "kernels", None, True), half) == "bf16"
    assert choose(half) == "bf16"
    assert choose(("fp16", "onnxruntime", 1.0, False)) == "fp32"
    assert choose(sound, half, precisions=("fp32", "bf16")) == "bf16"
    assert choose(("int8", "kernels", 0.9, False), precisions=("int8",)) == "int8"


def test_a_tokenizer_that_cannot_be_read_is_the_bundles_fault(bundle: Path) -> None:
    """The hash holds, the content does not: an exporter that wrote something else."""
    file = bundle / "tokenizer.json"
    file.write_text("{}")
    content = json.loads((bundle / MANIFEST).read_text())
    content["files"]["tokenizer.json"] = {"sha256": hash_file(file), "bytes": 2}
    write_json(bundle / MANIFEST, content)
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        Pipeline.open(bundle)


def test_a_bundle_is_found_where_it_is(bundle: Path) -> None:
    assert find_bundles(bundle) == [bundle]


def test_bundles_in_a_folder_are_found_by_name(bundle: Path) -> None:
    for name in ("b", "a", ".a.x1.partial"):
        shutil.copytree(bundle, bundle.parent / "all" / name)
    (bundle.parent / "all" / "lost+found").mkdir()
    (bundle.parent / "all" / "notes.txt").touch()
    assert find_bundles(bundle.parent / "all") == [bundle.parent / "all" / name for name in "ab"]


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert find_bundles(tmp_path) == []
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".hidden").touch()
    assert find_bundles(tmp_path) == []


def test_a_bundle_without_its_manifest_is_not_taken_for_an_empty_folder(bundle: Path) -> None:
    (bundle / MANIFEST).unlink()
    assert find_bundles(bundle) == [bundle]
    with pytest.raises(BundleNotFound, match="manifest"):
        Bundle.open(bundle)


def test_what_is_not_there_is_left_to_be_opened(tmp_path: Path) -> None:
    assert find_bundles(tmp_path / "nothing") == [tmp_path / "nothing"]
    (tmp_path / "file").touch()
    assert find_bundles(tmp_path / "file") == [tmp_path / "file"]
