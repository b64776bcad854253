"""Files of a data set in a local folder: which are expected, and one clear error where they are not."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from alrsim.errors import FileError, OptionError
from alrsim.writing import reason


@dataclass(frozen=True)
class Layout:
    """What a folder must hold.

    Attributes:
        dataset: Name in the registry.
        official: What the data set calls itself, to look for it: nothing is downloaded.
        files: The files expected in the folder, as a sentence.
        inner: Names of the folder that the official archive unpacks to; the user may point at it or at its parent.
    """

    dataset: str
    official: str
    files: str
    inner: tuple[str, ...] = ()

    @property
    def fix(self) -> str:
        """What to do about a missing file."""
        return f"get {self.official} from its authors and give the folder that holds {self.files}"


def opened(folder: Path | None, layout: Layout) -> Path:
    """The folder itself.

    Raises:
        OptionError: none was given.
        FileError: it does not exist or is not a folder.
    """
    if folder is None:
        raise OptionError(
            f"{layout.dataset} is read from a folder, and none was given",
            field="dataset",
            fix=f"give `data_folder`: {layout.fix}",
        )
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileError(f"the folder for {layout.dataset} {what}", where=str(folder), fix=layout.fix)
    return folder


def root_with(folder: Path | None, layout: Layout, *marks: str) -> tuple[Path, str]:
    """The folder, or the one of :attr:`Layout.inner` inside it, that has one of ``marks``; and which one it has.

    Raises:
        OptionError: no folder was given.
        FileError: none of the marks is there.
    """
    given = opened(folder, layout)
    for root in (given, *(given / name for name in layout.inner)):
        for mark in marks:
            if (root / mark).exists():
                return root, mark
    raise FileError(f"{layout.dataset}: there is no {' or '.join(marks)}", where=str(given), fix=layout.fix)


def read(path: Path, layout: Layout, first: int | None = None) -> bytes:
    """The file, unpacked where its name ends in ``.gz``.

    Args:
        first: Only so many bytes of it. What is packed may unpack to a thousand times its size, so that it is never
            read without a number.

    Raises:
        FileError: it is missing, cannot be read, or is cut off (gz).
    """
    packed = path.suffix == ".gz"
    assert first is not None or not packed, "what is packed is read up to a number of bytes"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            return file.read() if first is None else file.read(first)
    except FileNotFoundError:
        raise FileError(f"{layout.dataset}: a file is missing", where=str(path), fix=layout.fix) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise corrupt(path, layout, f"cannot be unpacked: {error}") from None
    except OSError as error:
        raise FileError(f"cannot be read: {reason(error)}", where=str(path), fix=layout.fix) from None


def read_text(path: Path, layout: Layout) -> str:
    """The whole file as UTF-8.

    Raises:
        FileError: as :func:`read`, or it is no UTF-8.
    """
    try:
        return read(path, layout).decode("utf-8")
    except UnicodeDecodeError as error:
        raise corrupt(path, layout, f"is not UTF-8 text: {error.reason} at byte {error.start}") from None


def corrupt(path: Path, layout: Layout, why: str) -> FileError:
    """The error for a file whose content is not what it should be."""
    return FileError(
        f"{layout.dataset}: {why}", where=str(path), fix=f"the file is damaged or another one: {layout.fix}"
    )
