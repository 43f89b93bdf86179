"""Downloads of the published sets, or from a mirror: resumed when interrupted, verified by SHA-256."""

import errno
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bype.core.errors import InputError, RunExistsError
from bype.core.files import flush
from bype.core.locks import locked
from bype.data.archives import opened
from bype.data.catalog import PUBLISHED, find, load, roots
from bype.data.images import Dataset
from bype.data.published import CIFAR10_ARCHIVE, CIFAR10_FOLDER, celeba_files, idx_path

ATTEMPTS = 5  # consecutive attempts without new bytes, after which a download fails
TIMEOUT = 30.0  # seconds without a byte
PAUSE = 1.0  # seconds before the second attempt, doubled before each later one
BLOCK = 2**18
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # errors of the disk, not of the network

FileProgress = Callable[[str, int, int], None]  # file, bytes received, total bytes


@dataclass(frozen=True)
class PublishedFile:
    """A file of a published set."""

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]
    content: str = ""  # SHA-256 of the content of a .gz, to verify an unpacked file


def _idx(hosts: tuple[str, ...], *files: tuple[str, int, str, str]) -> tuple[PublishedFile, ...]:
    return tuple(
        PublishedFile(name, size, sha, tuple(h + name for h in hosts), inside) for name, size, sha, inside in files
    )


# Sizes and SHA-256 of MNIST and Fashion-MNIST: of the published files, whose MD5 sums agree with torchvision's
# (MNIST: f68b3c2d..., d53e105e..., 9fb629c4..., ec29112d...; Fashion-MNIST: 8d4fb7e6..., 25c81989..., bef4ecab...,
# bb300cfd...). MNIST's own page no longer serves them: torchvision's mirror and Google's have the same bytes.
# CIFAR10's archive: the size, the MD5 c32a1d4ab5d03f1284b67883e8d87530 of its page, and the SHA-256 that TensorFlow
# Datasets has for it.
FILES: dict[str, tuple[PublishedFile, ...]] = {
    "mnist": _idx(
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        (
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": _idx(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        (
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    "cifar10": (
        PublishedFile(
            CIFAR10_ARCHIVE,
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        ),
    ),
}

# SHA-256 of the members of CIFAR10's archive; pixels, labels and order agree with its Python version.
CIFAR10_MEMBERS = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}

CELEBA = (
    "celeba: cannot be downloaded automatically; get img_align_celeba.zip from "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (for non-commercial research) and save it as {place}"
)


def fetch(
    name: str, data_dir: str | Path | None = None, *, mirror: str | None = None, progress: FileProgress
) -> list[str]:
    """Downloads the files of a set into ROOT/NAME, where ROOT is the first folder searched for sets.

    Args:
        name: `mnist`, `fashion-mnist` or `cifar10`.
        data_dir: ROOT, by default $BYPE_DATA or ~/.cache/bype.
        mirror: The URL of a folder with the layout of ROOT; by default the publishers' URLs.
        progress: Called with a file's name, the bytes received and the total.

    Returns:
        The paths of the files, whether downloaded now or before.

    Raises:
        InputError: If the set cannot be downloaded, or no download has the SHA-256 of the published file.
        RunExistsError: If another process is downloading the same file.
    """
    root = roots(data_dir)[0]
    if name == "celeba":
        if (folder := find(name, data_dir)) is None:
            raise InputError(CELEBA.format(place=root / name / "img_align_celeba.zip"))
        return [str(celeba_files(folder))]
    if name == "digits":
        return []
    if name not in FILES:
        raise InputError(f"data set: expected one of {', '.join(PUBLISHED)}, got {name!r}")
    paths = []
    for file in FILES[name]:
        urls = file.urls if mirror is None else (f"{mirror.rstrip('/')}/{name}/{file.name}",)
        paths.append(str(download(file, root / name, urls, progress)))
    return paths


def download(file: PublishedFile, folder: Path, urls: tuple[str, ...], progress: FileProgress) -> Path:
    """Downloads one file from the first URL that has it; an interrupted download is resumed from `.NAME.part`.

    Raises:
        InputError: If no URL has the whole file, or it cannot be written.
        RunExistsError: If another process is downloading it.
    """
    target, partial = folder / file.name, folder / f".{file.name}.part"
    try:
        if target.exists() and target.stat().st_size == file.size and file_sha256(target) == file.sha256:
            return target
        folder.mkdir(parents=True, exist_ok=True)
        busy = f"{partial}: another process is downloading this file"
        with locked(partial, busy), partial.open("ab") as out:
            problems = []
            for url in urls:
                problem = _from(url, file, out, progress)
                if problem is None:
                    out.flush()
                    flush(out.fileno())
                    partial.replace(target)
                    return target
                problems.append(f"{problem} from {url}")
    except RunExistsError:  # it is a subclass of OSError
        raise
    except OSError as e:
        raise InputError(f"{target}: expected to write it, got {e.strerror or e}") from None
    raise InputError(
        f"{target}: expected {file.size} bytes of SHA-256 {file.sha256[:12]}..., got {'; '.join(problems)}"
    )


def _from(url: str, file: PublishedFile, out: IO[bytes], progress: FileProgress) -> str | None:
    """Downloads from one URL, with repeated attempts; returns the last problem, or None on success."""
    problem, fruitless, most = "", 0, out.seek(0, os.SEEK_END)
    while fruitless < ATTEMPTS:
        if fruitless:
            time.sleep(PAUSE * 2 ** (fruitless - 1))
        before, problem = out.seek(0, os.SEEK_END), ""
        if before < file.size:
            try:
                _receive(url, file, out, progress)
            except urllib.error.HTTPError as e:
                e.close()
                if e.code == 416:  # the part is longer than the file
                    out.truncate(0)
                problem = f"HTTP {e.code} {e.reason}"
                if 300 <= e.code < 500 and e.code not in (408, 416, 429):
                    return problem
            except (OSError, http.client.HTTPException, ValueError) as e:
                if getattr(e, "errno", None) in FULL:
                    raise
                problem = f"{type(e).__name__} {getattr(e, 'reason', None) or e}".strip()
                if "unknown url type" in problem:
                    return problem
        there = out.seek(0, os.SEEK_END)  # which also writes what is buffered
        if there == file.size:
            got = file_sha256(Path(out.name))
            if got == file.sha256:
                return None
            problem = f"SHA-256 {got[:12]}..."
        elif there > file.size:
            problem = "more bytes"
        elif there > most:  # more than ever before; a server without ranges could otherwise fail forever
            problem, fruitless, most = problem or f"{there} bytes", 0, there
            continue
        else:
            problem, fruitless = problem or f"{there} bytes", fruitless + 1
            continue
        out.truncate(most := 0)  # complete or too long, and wrong: start again, once per URL
        if before == 0:
            return problem
        fruitless += 1
    return problem


def _receive(url: str, file: PublishedFile, out: IO[bytes], progress: FileProgress) -> None:
    """Appends the rest of the file from the server; stops one byte beyond the file's size."""
    there = out.seek(0, os.SEEK_END)
    headers = {"User-Agent": "bype", "Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
    with _OPENER.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as answer:
        if there and not (
            answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        ):
            out.truncate(there := 0)  # the server ignores the range or sends another one: start from the beginning
            out.seek(0)
        while block := answer.read1(min(BLOCK, file.size + 1 - there)):
            out.write(block)
            there += len(block)
            progress(file.name, min(there, file.size), file.size)
            if there > file.size:
                return


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS, proxies and redirects; no files and no FTP, even by a redirect."""
    opener = urllib.request.OpenerDirector()
    handlers: tuple[Any, ...] = (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    )
    for handler in handlers:
        opener.add_handler(handler())
    return opener


_OPENER = _opener()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        InputError: If the file cannot be read.
    """
    total = hashlib.sha256()
    try:
        with opened(path) as stream:
            while block := stream.read(2**20):
                total.update(block)
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror}") from None
    return total.hexdigest()


def check(name: str, data_dir: str | Path | None = None, **reading: Any) -> tuple[Dataset, list[str]]:
    """Reads a set, and verifies the SHA-256 of the files of a published one.

    Args:
        name: A published set's name, or a path as `load` takes it.
        data_dir: The folder searched first.
        reading: Other options of `load`.

    Returns:
        The set, and the files that were verified.

    Raises:
        InputError: If the set cannot be read, or a file differs.
    """
    folder = find(name, data_dir) if name in FILES else None
    compared = [] if folder is None else _compare(name, folder)
    return load(name, data_dir, **reading), compared


def _compare(name: str, folder: Path) -> list[str]:
    unpacked = folder / CIFAR10_FOLDER
    if name == "cifar10" and unpacked.exists():
        wanted = {unpacked / member: sha for member, sha in CIFAR10_MEMBERS.items()}
    else:
        wanted = {}
        for file in FILES[name]:
            path = idx_path(folder, file.name.removesuffix(".gz")) or folder / file.name
            wanted[path] = file.content if path.suffix != ".gz" else file.sha256
    for path, expected in wanted.items():
        got = file_sha256(path)
        if got != expected:
            raise InputError(f"{path}: expected the published file, SHA-256 {expected[:12]}..., got {got[:12]}...")
    return [str(p) for p in wanted]
