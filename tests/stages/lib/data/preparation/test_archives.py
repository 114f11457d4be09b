"""Archives that attack, and those that only look odd."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.lib.core.errors import UserError
from stages.lib.data.preparation import archives

FILES = {"oak/1.png": b"one", "oak/2.png": b"two", "beech/1.png": b"three"}


def as_zip(files: dict[str, bytes], path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return path


def as_tar(files: dict[str, bytes], path: Path, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def as_tar_gz(files: dict[str, bytes], path: Path) -> Path:
    return as_tar(files, path, "w:gz")


Pack = Callable[[dict[str, bytes], Path], Path]
PACKS = [as_zip, as_tar, as_tar_gz]


def refusal(path: Path) -> str:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(UserError) as caught:
        archives.members(path)
    assert sorted(path.parent.rglob("*")) == before  # nothing is written, here or elsewhere
    message = str(caught.value)
    assert len(message.splitlines()) == 2
    assert message.startswith(f"{path.as_posix()}: ")
    return message


@pytest.mark.parametrize("pack", PACKS)
def test_files_are_listed_and_read_in_their_order(pack: Pack, tmp_path: Path) -> None:
    path = pack(FILES, tmp_path / "leaves")  # whatever its name
    assert [(each.name, each.size) for each in archives.members(path)] == [
        ("oak/1.png", 3),
        ("oak/2.png", 3),
        ("beech/1.png", 5),
    ]
    assert list(archives.contents(path, {"beech/1.png", "oak/2.png"})) == [
        ("oak/2.png", b"two"),
        ("beech/1.png", b"three"),
    ]


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("../evil.png", "a path that leads out of the archive"),
        ("oak/../../evil.png", "a path that leads out of the archive"),
        ("oak\\..\\evil.png", "a path that leads out of the archive"),
        ("..", "a path that leads out of the archive"),
        ("/etc/passwd", "an absolute path"),
        ("\\\\server\\share", "an absolute path"),
        ("C:\\evil.png", "an absolute path"),
        ("c:evil.png", "an absolute path"),
        ("oak/1.png", "the name twice"),
        ("oak/./1.png", "the name twice"),
        ("oak//1.png", "the name twice"),
        ("OAK/9.png", "a folder that differs from oak in case"),
        ("oak/1.PNG", "a name that differs from oak/1.png in case"),
        ("oak/1.png/2.png", "a folder that is a file too"),
        ("oak", "a name that is a folder too"),
        ("oak/\x1b[2J.png", "a name with control characters, or not in UTF-8"),
    ],
)
def test_names_that_attack_are_refused(pack: Pack, name: str, found: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile, "ZipInfo", RawInfo)
        entries = {**FILES, name: b"evil"} if name not in FILES else FILES
        path = pack(entries, tmp_path / "leaves")
        if name in FILES:
            path = twice(pack, name, tmp_path / "leaves")
    message = refusal(path)
    shown = name.replace("\x1b", "?")
    assert f": {shown}: expected a file that an archive of images may hold, found {found}.\n" in (
        message
    )


class RawInfo(zipfile.ZipInfo):
    """A name that is stored as it is, on every system."""

    def __init__(self, filename: str) -> None:
        super().__init__("x")
        self.filename = self.orig_filename = filename


@pytest.mark.filterwarnings("ignore:Duplicate name")
def twice(pack: Pack, name: str, path: Path) -> Path:
    if pack is as_zip:
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(zipfile.ZipInfo(name), b"evil")
        return path
    content = path.read_bytes()
    plain = gzip.decompress(content) if pack is as_tar_gz else content
    first = plain[:1024]  # the header and the content of the first file
    plain = first + plain
    path.write_bytes(gzip.compress(plain) if pack is as_tar_gz else plain)
    return path


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device or another special file"),
        (tarfile.BLKTYPE, "a device or another special file"),
        (tarfile.FIFOTYPE, "a device or another special file"),
        (tarfile.GNUTYPE_SPARSE, "a device or another special file"),
    ],
)
def test_special_files_in_a_tar_are_refused(kind: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "leaves.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("oak/1.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert f"oak/1.png: expected a file that an archive of images may hold, found {found}" in (
        refusal(path)
    )


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        (stat.S_IFLNK | 0o777, "a link"),
        (stat.S_IFCHR, "a device or another special file"),
        (stat.S_IFIFO, "a device or another special file"),
    ],
)
def test_special_files_in_a_zip_are_refused(mode: int, found: str, tmp_path: Path) -> None:
    path = tmp_path / "leaves.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("oak/1.png")
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, "/etc/passwd")
    assert f"found {found}.\n" in refusal(path)


def test_a_zip_with_a_password_or_another_method_is_refused(tmp_path: Path) -> None:
    path = as_zip(FILES, tmp_path / "leaves.zip", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\1\2")
    content[at + 8] |= 1
    path.write_bytes(content)
    assert "oak/1.png: " in refusal(path)
    assert "found a file that needs a password.\n" in refusal(path)
    as_zip(FILES, path, zipfile.ZIP_LZMA)
    assert "found a file packed by another method than stored or deflated.\n" in refusal(path)


@pytest.mark.parametrize("pack", PACKS)
def test_too_much_is_refused_by_what_the_headers_state(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(FILES, tmp_path / "leaves")
    with monkeypatch.context() as patch:
        patch.setattr(archives, "MOST_FILES", 2)
        assert "beech/1.png: " in refusal(path)
        assert "found more than 2 files.\n" in refusal(path)
    with monkeypatch.context() as patch:
        patch.setattr(archives, "LARGEST", 10)
        assert "found more than 10 bytes unpacked in all.\n" in refusal(path)
    monkeypatch.setattr(archives, "LARGEST_FILE", 1_000_000)
    bomb = pack({"oak/1.png": bytes(1_000_001)}, tmp_path / "bomb")
    assert "oak/1.png: " in refusal(bomb)
    assert "found 1,000,001 bytes unpacked, more than 1,000,000.\n" in refusal(bomb)


def test_a_bomb_that_states_a_small_size_is_not_unpacked(tmp_path: Path) -> None:
    path = as_zip({"oak/1.png": bytes(10_000_000)}, tmp_path / "leaves.zip")
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\1\2")
    struct.pack_into("<I", content, at + 24, 5)
    path.write_bytes(content)
    assert archives.members(path)[0].size == 5
    with pytest.raises(UserError, match=r"expected a whole zip, tar or tar\.gz archive, found"):
        list(archives.contents(path, {"oak/1.png"}))


def test_a_tar_with_an_endless_name_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    path = tmp_path / "leaves.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    assert "found: " in refusal(path)


@pytest.mark.parametrize("pack", PACKS)
def test_an_archive_that_is_cut_off_anywhere_is_refused(pack: Pack, tmp_path: Path) -> None:
    whole = pack(FILES, tmp_path / "leaves").read_bytes()
    path = tmp_path / "cut"
    end = len(whole) - 1
    if pack is as_tar:  # which is padded by more zeros than the end mark needs
        end = 6 * 512
    for size in range(0, end, 37):
        path.unlink(missing_ok=True)
        path.write_bytes(whole[:size])
        assert "expected a whole zip, tar or tar.gz archive, found: " in refusal(path)


@pytest.mark.parametrize("pack", PACKS)
def test_damage_in_a_file_is_found_when_it_is_read(pack: Pack, tmp_path: Path) -> None:
    path = pack({"oak/1.png": bytes(range(256)) * 50}, tmp_path / "leaves")
    content = bytearray(path.read_bytes())
    if pack is as_tar:
        return  # a tar knows no checksum of its files; the catalogue's SHA-256 is one of all
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"expected a whole zip, tar or tar\.gz archive, found"):
        list(archives.contents(path, {each.name for each in archives.members(path)}))


def test_names_are_composed_and_utf_8_is_seen_though_it_is_not_stated(tmp_path: Path) -> None:
    path = as_zip({"Ma\u0308dchenauge/叶.png": b"x"}, tmp_path / "leaves.zip")
    assert archives.members(path)[0].name == "Mädchenauge/叶.png"
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        at = content.index(mark) + offset
        assert struct.unpack_from("<H", content, at)[0] & 0x800
        struct.pack_into("<H", content, at, 0)  # as some systems leave it
    path.write_bytes(content)
    assert archives.members(path)[0].name == "Mädchenauge/叶.png"
    assert list(archives.contents(path, {"Mädchenauge/叶.png"})) == [("Mädchenauge/叶.png", b"x")]


class Unstated(zipfile.ZipInfo):
    """An entry whose name is in some encoding of Windows', which the archive does not state."""

    encoding = "gbk"

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:  # noqa: N802 zipfile's name
        return self.filename.encode(self.encoding), self.flag_bits


@pytest.mark.parametrize(("encoding", "classes"), [("gbk", "猫狗"), ("cp437", "äü")])
def test_names_in_an_encoding_of_windows_are_read_right_or_refused(
    encoding: str, classes: str, tmp_path: Path
) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in classes:
            entry = Unstated(f"{name}/1.png")
            entry.encoding = encoding
            archive.writestr(entry, b"one")
    if encoding == "cp437":  # which it is by the rule for zip files
        assert [member.name for member in archives.members(path)] == ["ä/1.png", "ü/1.png"]
    else:
        assert "a name in an encoding that it does not state, and not in UTF-8" in refusal(path)


def test_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leaves.zip"
    for content in (
        b"",
        b"PK",
        b"text",
        b"\x1f\x8b",
        b"\x1f\x8bxxxxxxxxxxxxxxxxxxxxxx",
        bytes(511),
    ):
        path.write_bytes(content)
        assert "expected a whole zip, tar or tar.gz archive, found: " in refusal(path)


def test_a_file_that_is_not_there_is_named_by_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        archives.members(tmp_path / "none.zip")
