"""Files: written whole or not at all, in place where replacing would harm, and refused before anything is computed."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from alrsim.errors import FileError
from alrsim.files import decode_json, read_json, read_text
from alrsim.writing import append_line, check_folder, check_writable, locked, make_folder, writable, write_atomically


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_no_regular_file_is_written_in_place(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        device = Path("/dev/null")
    write_atomically(device, b"x" * 1000)
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_pipe_is_written_to_and_one_that_nobody_reads_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for refused in (lambda: check_writable(pipe), lambda: write_atomically(pipe, b"x")):
        with pytest.raises(FileError):
            refused()
    with pytest.raises(FileError, match="nobody reads from it"):
        check_writable(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    while True:  # until the reader has opened it
        try:
            with writable(pipe):
                write_atomically(pipe, b"one")
                write_atomically(pipe, b"two")
            break
        except FileError:
            continue
    reader.join()
    assert found == [b"onetwo"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_links_are_followed(tmp_path: Path) -> None:
    folder, link, dangling = tmp_path / "far", tmp_path / "link", tmp_path / "dangling"
    folder.mkdir()
    (folder / "file").write_bytes(b"old")
    link.symlink_to(folder / "file")
    dangling.symlink_to(folder / "new")
    for one in (link, dangling):
        check_writable(one)
        write_atomically(one, b"new")
        assert one.is_symlink()
        assert one.read_bytes() == b"new"
    assert sorted(path.name for path in folder.iterdir()) == ["file", "new"]
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(FileError):
        check_writable(loop)


def test_the_mode_is_kept_or_follows_the_umask(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_bytes(b"")
    old.chmod(0o640)
    before = os.umask(0o077)
    try:
        write_atomically(new, b"x")
        write_atomically(old, b"x")
    finally:
        os.umask(before)
    assert (mode(new), mode(old)) == (0o600, 0o640)


def test_file_and_folder_are_synced_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("replace"), replace(*names)))
    write_atomically(tmp_path / "x", b"x")
    assert done == ["file", "replace", "folder"]


def test_a_disk_that_fills_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="cannot write: the disk is full"):
        write_atomically(path, b"new")
    for refused in (lambda: check_writable(path), lambda: check_folder(tmp_path / "a" / "b")):
        with pytest.raises(FileError, match="cannot be written: the disk is full"):
            refused()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/proc/sys").is_dir(), reason="needs a folder in which nothing can be made")
def test_a_folder_in_which_nothing_can_be_made_is_refused() -> None:
    for refused in (lambda: check_writable(Path("/proc/sys/x")), lambda: check_folder(Path("/proc/sys/x/y"))):
        with pytest.raises(FileError, match="cannot be written"):
            refused()


def test_a_file_without_the_right_to_write_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda _path, _mode, **_more: False)
    for refused in (lambda: check_writable(path), lambda: write_atomically(path, b"new")):
        with pytest.raises(FileError, match="Permission denied"):
            refused()
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "\ud800"], ids=["NUL", "5,000 characters", "half a pair"])
def test_names_that_no_file_has_are_one_message(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for use in (
        lambda: write_atomically(path, b""),
        lambda: check_writable(path),
        lambda: check_folder(path),
        lambda: make_folder(path),
        lambda: append_line(path, b""),
        lambda: locked(path, "", fix="").__enter__(),
        lambda: read_text(path),
    ):
        with pytest.raises(FileError):
            use()


def test_text_that_is_none_names_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"good \x93 bad")
    with pytest.raises(FileError, match=r"is not a text file: byte 5 \(0x93\) is not UTF-8"):
        read_text(path)


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", '{"a": [1, -1e999]}'])
def test_json_holds_finite_numbers(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="no finite number"):
        decode_json(text)
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(FileError, match="no finite number"):
        read_json(tmp_path / "x.json")


def test_a_lock_is_held_once_and_not_by_forked_children(tmp_path: Path) -> None:
    with locked(tmp_path, "taken", fix=""):
        with pytest.raises(FileError, match="taken"), locked(tmp_path, "taken", fix=""):
            pass
        ready, ready_to_write = os.pipe()
        end, end_to_write = os.pipe()
        child = os.fork()
        if not child:  # outlives the lock of its parent
            os.write(ready_to_write, b"x")
            os.close(end_to_write)
            os.read(end, 1)
            os._exit(0)
        os.read(ready, 1)
    with locked(tmp_path, "taken", fix=""):
        os.close(end_to_write)
    os.waitpid(child, 0)
    assert list(tmp_path.iterdir()) == []
