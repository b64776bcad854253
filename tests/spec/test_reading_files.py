"""What is read is a whole file, what a pipe gives, or one message; what never ends is not waited for."""

import os
import threading

import pytest

from alrsim import files
from alrsim.errors import FileError
from alrsim.files import read_bytes


def test_a_file_of_any_size_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_STREAMED", 4)
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bytes(tmp_path / "file") == b"12345"


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="this system has no endless device")
def test_an_endless_device_is_refused(monkeypatch):
    monkeypatch.setattr(files, "MOST_STREAMED", 1 << 20)
    with pytest.raises(FileError, match="/dev/zero: is no regular file and gives more than 1,048,576 bytes"):
        read_bytes("/dev/zero")
    assert read_bytes("/dev/null") == b""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_read_to_its_end(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"all of it",))
    writer.start()
    assert read_bytes(pipe) == b"all of it"
    writer.join()


@pytest.mark.parametrize(
    ("name", "words"),
    [("none", "no such file"), (".", "cannot be read: Is a directory"), ("a\0b", "cannot be read: holds a character")],
)
def test_what_cannot_be_read_is_one_message(tmp_path, name, words):
    with pytest.raises(FileError, match=words):
        read_bytes(tmp_path / name)
